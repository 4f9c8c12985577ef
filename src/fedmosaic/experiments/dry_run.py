"""A run in memory, for its costs: who trains when, and what is uploaded and sent, are those of the real one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.federation import participation
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.methods.base import Aggregation, Uploads
from fedmosaic.training import NullModelPool


@dataclass(frozen=True)
class Round:
    """What a round costs, and what travels in it.

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


def still(settings: RunSettings) -> Runtime:
    """Return a machine whose base models compute nothing: it counts the same FLOPs in a fraction of the time."""
    return Runtime(settings, Path("unused"), kind=NullModelPool)


def rehearse(machine: Runtime) -> Iterator[Round]:
    """Yield the rounds of a machine's run; nothing is scored, and nothing is written."""
    settings, method = machine.settings, machine.method
    context = ServerContext(settings, machine)
    clients = {spec.id: Participant(machine, spec.id) for spec in settings.scenario.clients}
    states: dict[int, dict[str, Tensor]] = {}
    uploads, answer = Uploads([]), Aggregation({})
    for round_, training in machine.schedule.items():
        before = context.spent.flops, context.spent.seconds
        uploads = uploads.since(participation.oldest_that_counts(settings, round_))
        state = answer.state
        answer = context.aggregate(uploads.towards(training), state, round_) if uploads else Aggregation({})
        newcomers = {
            client: method.welcome(me.base.architecture, method.upload_shapes(me.adapter), uploads)
            for client, me in clients.items()
            if uploads and client in training and client not in uploads
        }
        answer = answer.with_downloads(newcomers)
        done = []
        for client in training:
            me = clients[client]
            done.append(me.dry_round(round_, answer.downloads.get(client), states.get(client)))
            states[client] = done[-1].state
        sent = Uploads([each.upload for each in done])
        yield Round(
            context.spent.flops - before[0] + sum(each.meter.flops for each in done),
            context.spent.seconds - before[1] + sum(each.meter.seconds for each in done),
            answer.downloads,
            sent,
        )
        uploads = uploads.updated(sent)


def steady_round(machine: Runtime) -> Round:
    """Return the second round of a machine's run, the first in which there is something to receive."""
    return next(islice(rehearse(machine), 1, None))
