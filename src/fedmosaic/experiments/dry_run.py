"""A dry run: a run in memory for its costs, with the participants, uploads and downloads of the real one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.federation import participation
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.methods.base import Aggregation
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import ClientState, NullModelPool


@dataclass(frozen=True)
class Round:
    """What a round costs, and what is communicated in it.

    Attributes:
        flops: of all clients and the server.
        seconds: of the same.
        downloads: what each client received before it trained.
        uploads: what each client sent afterwards.
    """

    flops: float
    seconds: float
    downloads: Mapping[int, Mapping[str, Tensor]]
    uploads: Uploads


def with_null_models(settings: RunSettings) -> Assets:
    """Return assets whose base models are null models: the same FLOPs are counted in a fraction of the time.

    Args:
        settings: of the run.
    """
    return Assets(settings, pool=NullModelPool)


def dry_run(assets: Assets) -> Iterator[Round]:
    """Yield the rounds of a run; nothing is scored, and nothing is written.

    Args:
        assets: of the run; adapters are attached to their base models until the last round has been yielded.
    """
    settings, method, adapters = assets.settings, assets.method, AdapterFactory(assets)
    context = ServerContext(assets, adapters)
    clients = {spec.id: Participant(assets, adapters, spec.id) for spec in settings.scenario.clients}
    states: dict[int, ClientState] = {}
    uploads, answer = Uploads([]), Aggregation({})
    try:
        for round_, training in assets.schedule.items():
            before = context.spent.flops, context.spent.seconds
            uploads = uploads.since(participation.oldest_that_counts(settings, round_))
            state = answer.state
            answer = context.aggregate(uploads.towards(training), state, round_) if uploads else Aggregation({})
            newcomers = [clients[client] for client in training if uploads and client not in uploads]
            answer = answer.with_downloads(
                {
                    me.spec.id: context.initial_download(
                        me.base.architecture, method.upload_shapes(me.adapter), uploads
                    )
                    for me in newcomers
                }
            )
            done = []
            for client in training:
                me = clients[client]
                done.append(me.train(me.client(round_, states.get(client)), answer.downloads.get(client, {})))
                states[client] = done[-1].state
            sent = Uploads([each.upload for each in done])
            yield Round(
                context.spent.flops - before[0] + sum(each.meter.flops for each in done),
                context.spent.seconds - before[1] + sum(each.meter.seconds for each in done),
                answer.downloads,
                sent,
            )
            uploads = uploads.updated(sent)
    finally:
        adapters.detach()


def steady_round(assets: Assets) -> Round:
    """Return the second round of a run, the first in which there is something to receive.

    Args:
        assets: of the run.
    """
    return next(islice(dry_run(assets), 1, None))
