"""The client side of one process: participants, and the models, data and features they share on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import Adapter
from fedmosaic.config import ClientSpec, RunSettings, home
from fedmosaic.data.benchmark import Benchmark, load_benchmark
from fedmosaic.data.sample import Task
from fedmosaic.data.stream import Stream
from fedmosaic.evaluation import TaskScore, score_samples
from fedmosaic.federation.client_store import ClientStore
from fedmosaic.methods.base import Method
from fedmosaic.methods.registry import make_method
from fedmosaic.models import BaseModel
from fedmosaic.training import Client, Meter, ModelPool, adapter_state, events, weights


@dataclass
class Machine:
    """What all participants of a run on one machine share.

    Attributes:
        settings: the run's settings.
        folder: where the participants' private states live.
    """

    settings: RunSettings
    folder: Path
    _base_scores: dict[tuple[str, str, int], TaskScore] = field(default_factory=dict)
    _starts: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @cached_property
    def benchmark(self) -> Benchmark:
        """The tasks and images."""
        scenario = self.settings.scenario
        folder = Path(scenario.data) if scenario.data else None
        return load_benchmark(scenario.benchmark, home=home(), folder=folder, skip_bad=scenario.skip_bad)

    @cached_property
    def pool(self) -> ModelPool:
        """The base models."""
        return ModelPool(images=self.benchmark.images, home=home(), device=self.settings.device)

    @cached_property
    def method(self) -> Method[Any]:
        """The federated method."""
        method = make_method(self.settings.method, self.settings.method_settings)
        method.prepare(self.pool, self.settings)
        return method

    def adapter(self, spec: ClientSpec) -> Adapter:
        """The adapter modules of a client's base model, which the clients of this model take turns in."""
        shape = self.settings.adapter
        if not self.method.colora:
            shape = shape.model_copy(update={"blocks": 0})
        adapter = self.pool.adapter(
            spec.model,
            slots=self.method.slots,
            settings=shape,
            gated=self.method.answers_with == "gate",
            seed=seeding.derive(self.settings.seed, "adapter"),
        )
        if spec.model not in self._starts:
            self._starts[spec.model] = adapter_state(adapter)
        return adapter

    def start(self, spec: ClientSpec) -> dict[str, Tensor]:
        """State of a client that has not trained yet: the same draw for all clients of one architecture."""
        self.adapter(spec)
        return self._starts[spec.model]

    def base_score(self, spec: ClientSpec, task: str, count: int, batch_size: int) -> TaskScore:
        """Score of the base model without adapter; equal for all clients of one architecture, so measured once."""
        key = (spec.model, task, count)
        if key not in self._base_scores:
            with self.adapter(spec).disabled():
                self._base_scores[key] = self.score(self.pool.model(spec.model), task, count, batch_size)
        return self._base_scores[key]

    def score(self, model: BaseModel, task: str, count: int, batch_size: int) -> TaskScore:
        """Score on the first ``count`` test samples of a task, 0 for all."""
        samples = self.benchmark.task(task).test
        chosen = samples[:count] if count else samples
        return score_samples(model, chosen, batch_size=batch_size, open_metric=self.settings.evaluation.open_metric)


class Participant:
    """One client of a run: answers the server's messages from its own state.

    A round is trained from the stored state of the round before, so a repeated message gives the same reply.
    """

    def __init__(self, machine: Machine, client_id: int) -> None:
        self.machine = machine
        self.spec = machine.settings.scenario.client(client_id)
        self.base = machine.pool.model(self.spec.model)
        self.store = ClientStore(machine.folder / f"client-{client_id:03d}")
        tasks = [_share(machine.benchmark.task(name), self.spec.shares.get(name)) for name in self.spec.tasks]
        settings = machine.settings
        self.stream = Stream(
            tasks,
            protocol=settings.scenario.protocol,
            rounds=settings.rounds,
            seed=seeding.derive(settings.seed, "stream", client_id),
        )
        self._latest: tuple[int, dict[str, Tensor]] | None = None

    @property
    def adapter(self) -> Adapter:
        """The adapter modules, in whatever state the last client left them."""
        return self.machine.adapter(self.spec)

    def train(self, round_: int, download: dict[str, Tensor]) -> tuple[dict[str, Tensor], Meter]:
        """Train one round and return the upload and what was done."""
        method = self.machine.method
        client = self._client(round_, after=round_ - 1)
        method.receive(client, download)
        client.timed(lambda each: method.train(each, each.budget()))
        state = client.state()
        self.store.save(round_, state)
        self._latest = (round_, state)
        events.emit(
            "trained", client=self.spec.id, round=round_, loss=client.meter.loss, seconds=round(client.meter.seconds, 3)
        )
        return method.upload(client), client.meter

    def dry_round(self) -> Meter:
        """What the first round costs; nothing is kept."""
        client = self._client(1, after=0)
        self.machine.method.receive(client, {})
        client.timed(lambda each: self.machine.method.train(each, each.budget()))
        return client.meter

    def evaluate(self, round_: int, *, others: bool, count: int) -> dict[str, tuple[float, ...]]:
        """Score the model that the client has after ``round_``; round 0 is the base model.

        Args:
            round_: the round.
            others: whether all other clients' tasks are scored, too.
            count: test samples per task; 0 for all.
        """
        scenario, batch_size = self.machine.settings.scenario, self.machine.settings.evaluation.batch_size
        tasks = scenario.task_names if others else list(self.spec.tasks)
        if round_ == 0:
            return {task: self.machine.base_score(self.spec, task, count, batch_size).scores for task in tasks}
        return self.score(round_, tasks, count=count)

    def score(self, round_: int, tasks: Sequence[str], *, count: int) -> dict[str, tuple[float, ...]]:
        """Score the model after ``round_`` on any tasks; the last arguments are those of :meth:`evaluate`."""
        client, batch_size = self.client_after(round_), self.machine.settings.evaluation.batch_size
        with client.adapter.mixed(weights(self.machine.method.answers_with)):
            return {task: self.machine.score(self.base, task, count, batch_size).scores for task in tasks}

    def client_after(self, round_: int) -> Client:
        """The client in its state after a round."""
        return self._client(round_, after=round_)

    def _client(self, round_: int, *, after: int) -> Client:
        """The client at work in ``round_``, in its state after the round ``after``."""
        client = Client(
            self.spec,
            base=self.base,
            adapter=self.adapter,
            stream=self.stream,
            pool=self.machine.pool,
            settings=self.machine.settings,
            round_=round_,
        )
        client.secret = self.store.secret
        if after == 0:
            client.restore(self.machine.start(self.spec))
        elif self._latest is not None and self._latest[0] == after:
            client.restore(self._latest[1])
        else:
            client.restore(self.store.load(after))
        return client


def _share(task: Task, share: tuple[float, float] | None) -> Task:
    """The task with a fraction of its train samples, at least one."""
    if share is None:
        return task
    low, high = (round(edge * len(task.train)) for edge in share)
    low = min(low, len(task.train) - 1)
    return dataclasses.replace(task, train=task.train[low : max(high, low + 1)])
