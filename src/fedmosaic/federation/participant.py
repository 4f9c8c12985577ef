"""A client of a run at work: from a state and a download to an upload and the next state. Nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import Adapter
from fedmosaic.config import ClientSpec
from fedmosaic.data.stream import Stream
from fedmosaic.errors import SettingsError
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.division import own_part
from fedmosaic.methods.uploads import Upload
from fedmosaic.training import Client, ClientState, Meter, steps_of
from fedmosaic.training.lane import own_adapter


class TrainedRound(NamedTuple):
    """What a client's round leaves behind.

    Attributes:
        upload: what leaves the client.
        meter: what was done.
        state: what stays with the client.
    """

    upload: Upload
    meter: Meter
    state: ClientState


class Participant:
    """One client of a run.

    Args:
        assets: of the run.
        adapters: gives the modules that the clients of one base model take turns in.
        client_id: the client's id in the scenario.

    Attributes:
        spec: who the client is.
        base: its base model.
        stream: its own samples over the rounds.

    Raises:
        SettingsError: there is no such client, or the scenario's division is still to be drawn.
        DataError: the client has no samples of a task.
    """

    def __init__(self, assets: Assets, adapters: AdapterFactory, client_id: int) -> None:
        settings = assets.settings
        if settings.scenario.division is not None:
            raise SettingsError("the scenario's division is still to be drawn: fedmosaic.federation.divided does it")
        self.spec = settings.scenario.client(client_id)
        self.base = assets.pool.known(self.spec.model)
        self._assets = assets
        self._adapters = adapters
        rounds = self.spec.rounds(settings.rounds)
        dealt = self.spec.rounds(settings.horizon)
        self.stream = Stream(
            [own_part(assets.benchmark.task(name), self.spec) for name in self.spec.tasks],
            protocol=settings.scenario.protocol,
            rounds=len(dealt),
            seed=seeding.derive(settings.seed, "stream", client_id),
            first=rounds.start,
            after=max(0, len(rounds) - len(dealt)),
            idle=set(rounds) - set(assets.rounds_trained(self.spec, until=settings.rounds)),
            pace=partial(steps_of, settings, client_id),
        )

    @property
    def adapter(self) -> Adapter:
        """The adapter modules, in whatever state the last client left them."""
        return self._adapters.adapter(self.spec)

    def client(self, round_: int, state: ClientState | None = None) -> Client:
        """Return the client at work in a round.

        Args:
            round_: from 1; after a round, to answer as it does then, that round.
            state: that it is in; default: as it starts.

        Raises:
            ModelError: the state does not fit the client's adapter.
        """
        state = self._adapters.start(self.spec) if state is None else state
        stream = self.stream.with_idle(state.missed)
        return client_of(self._assets, self._adapters, self.spec, round_, state, stream=stream)

    def train(self, client: Client, download: Mapping[str, Tensor]) -> TrainedRound:
        """Train one round.

        Args:
            client: of :meth:`client`.
            download: what the server sent; empty in the first round.

        Returns:
            what leaves the client, what was done, and what stays.
        """
        method = self._assets.method
        method.receive(client, download)
        client.timed(lambda each: method.train(each, each.budget()))
        state = client.state()
        upload = Upload(self.spec.id, self.base.architecture, method.upload(client), client.meter.samples, client.round)
        return TrainedRound(upload, client.spent, state)


def client_of(
    assets: Assets,
    adapters: AdapterFactory,
    spec: ClientSpec,
    round_: int,
    state: ClientState,
    *,
    stream: Stream | None = None,
) -> Client:
    """Return a client in a state, with its proxy model where the method has one.

    Args:
        assets: of the run.
        adapters: gives the modules.
        spec: who the client is.
        round_: from 1; after a round, to answer as it does then, that round.
        state: that it is in.
        stream: its own samples; None where it only answers.

    Raises:
        ModelError: the state does not fit the client's adapter.
    """
    assets.pool.turn()
    adapter, proxy, companion = own_adapter(adapters.adapter(spec)), assets.method.proxy, None
    if proxy is not None and adapter.proxy is not None:
        base = assets.pool.proxy(proxy.model)
        companion = Client(spec, adapter.proxy, assets, round_, stream=stream, base=base, training=proxy.training)
    client = Client(spec, adapter, assets, round_, stream=stream, proxy=companion)
    client.restore(state)
    return client
