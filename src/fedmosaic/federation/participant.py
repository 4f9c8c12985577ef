"""The client side of one process: a participant answers the server's messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import Adapter
from fedmosaic.data.stream import Stream
from fedmosaic.errors import SettingsError
from fedmosaic.federation.division import own_part
from fedmosaic.federation.runtime import Runtime
from fedmosaic.methods.base import Upload
from fedmosaic.training import Client, Meter, events, steps_of


class DryRound(NamedTuple):
    """What a round would have left behind."""

    upload: Upload
    meter: Meter
    state: dict[str, Tensor]


class Participant:
    """One client of a run: answers the server's messages from its own state.

    A round is trained from the stored state of the last round in which the client trained before it, so a repeated
    message gives the same reply.
    """

    def __init__(self, machine: Runtime, client_id: int) -> None:
        self.machine = machine
        self.spec = machine.settings.scenario.client(client_id)
        self.base = machine.pool.model(self.spec.model)
        machine.method.prepare(machine.pool, machine.settings)
        self.store = machine.store(client_id)
        if machine.settings.scenario.division is not None:
            raise SettingsError("the scenario's division is still to be drawn: fedmosaic.federation.divided does it")
        tasks = [own_part(machine.benchmark.task(name), self.spec) for name in self.spec.tasks]
        settings = machine.settings
        rounds = self.spec.rounds(settings.rounds)
        dealt = self.spec.rounds(settings.horizon)
        self.stream = Stream(
            tasks,
            protocol=settings.scenario.protocol,
            rounds=len(dealt),
            seed=seeding.derive(settings.seed, "stream", client_id),
            first=rounds.start,
            after=max(0, len(rounds) - len(dealt)),
            idle=set(rounds) - set(machine.trained(self.spec, until=settings.rounds)),
            pace=partial(steps_of, settings, client_id),
        )

    @property
    def adapter(self) -> Adapter:
        """The adapter modules, in whatever state the last client left them."""
        return self.machine.adapter(self.spec)

    def train(self, round_: int, download: dict[str, Tensor]) -> tuple[dict[str, Tensor], Meter]:
        """Train one round and return the upload and what was done."""
        method = self.machine.method
        self.machine.inputs.keep()
        client = self._client(round_, self.machine.state_after(self.spec, round_ - 1))
        client.secret = self.store.secret
        self._work(client, download)
        self.machine.keep_alignment()
        self.store.save(round_, client.state())
        events.emit(
            "trained", client=self.spec.id, round=round_, loss=client.meter.loss, seconds=round(client.meter.seconds, 3)
        )
        return method.upload(client), client.meter

    def dry_round(
        self,
        round_: int | None = None,
        download: Mapping[str, Tensor] | None = None,
        state: dict[str, Tensor] | None = None,
    ) -> DryRound:
        """Train a round without keeping anything.

        Args:
            round_: default: the client's first.
            download: what the server sent.
            state: of the client before it; default: as it starts.
        """
        client = self._client(self.spec.joins if round_ is None else round_, state)
        self._work(client, download or {})
        tensors = self.machine.method.upload(client)
        upload = Upload(self.spec.id, self.base.architecture, tensors, client.meter.samples, client.round)
        return DryRound(upload, client.meter, client.state())

    def _work(self, client: Client, download: Mapping[str, Tensor]) -> None:
        method = self.machine.method
        method.receive(client, download)
        client.timed(lambda each: method.train(each, each.budget()))

    def evaluate(self, round_: int, *, others: bool, count: int) -> dict[str, tuple[float, ...]]:
        """Score the model that the client has after ``round_``; round 0 is the base model (with the LoRA it brings).

        Args:
            round_: the round.
            others: whether all other clients' tasks are scored, too.
            count: test samples per task; 0 for all.
        """
        tasks = self.machine.settings.scenario.task_names if others else list(self.spec.tasks)
        if round_ == 0 and not self.spec.start:
            return {task: each.scores for task, each in self.machine.base_scores(self.spec, tasks, count).items()}
        return self.score(round_, tasks, count=count)

    def score(self, round_: int, tasks: Sequence[str], *, count: int) -> dict[str, tuple[float, ...]]:
        """Score the model after ``round_`` on any tasks; the last arguments are those of :meth:`evaluate`."""
        with self.machine.method.answering(self.client_after(round_)) as model:
            return {task: each.scores for task, each in self.machine.scores(model, tasks, count).items()}

    def client_after(self, round_: int) -> Client:
        """The client with the model that it answers with after a round."""
        return self._client(round_, self.machine.answering_state(self.spec, round_))

    def _client(self, round_: int, state: dict[str, Tensor] | None = None) -> Client:
        """The client at work in ``round_``, in a state that is kept of it, or as it starts."""
        client = Client(
            self.spec,
            base=self.base,
            adapter=self.adapter,
            stream=self.stream,
            pool=self.machine.pool,
            settings=self.machine.settings,
            round_=round_,
            public=self.machine.public,
        )
        client.restore(self.machine.start(self.spec) if state is None else state)
        return client
