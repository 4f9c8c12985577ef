"""The client side of one process: participants, and the models, data and features they share on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import Adapter
from fedmosaic.adapters.alignment import Alignment, alignment_for, is_alignment
from fedmosaic.adapters.start import StartingSlot, starting_slot
from fedmosaic.config import AdapterSettings, ClientSpec, RunSettings, home
from fedmosaic.data.benchmark import Benchmark, load_benchmark
from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import Sample, Task
from fedmosaic.data.stream import Stream
from fedmosaic.evaluation import TaskScore, score_samples
from fedmosaic.federation import participation
from fedmosaic.federation.base_scores import BaseScores
from fedmosaic.federation.client_store import ClientStore
from fedmosaic.methods.base import Method, Upload
from fedmosaic.methods.registry import make_method
from fedmosaic.models import BaseModel
from fedmosaic.training import Client, Meter, ModelPool, adapter_state, events


@dataclass
class Machine:
    """What all participants of a run on one machine share.

    Attributes:
        settings: the run's settings.
        folder: where the participants' private states live.
        images: where images come from, if not from the benchmark.
        cache: where image features are kept.
    """

    settings: RunSettings
    folder: Path
    images: ImageSource | None = None
    cache: Path = field(default_factory=home)
    _starts: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _imports: dict[tuple[str, str], StartingSlot] = field(default_factory=dict)

    @cached_property
    def benchmark(self) -> Benchmark:
        """The tasks and images."""
        scenario = self.settings.scenario
        folder = Path(scenario.data) if scenario.data else None
        return load_benchmark(
            scenario.benchmark,
            home=home(),
            folder=folder,
            skip_bad=scenario.skip_bad,
            open_tasks=scenario.open_tasks,
            public=scenario.public,
        )

    def public(self, count: int, round_: int) -> Sequence[Sample]:
        """Public samples of one round: the same on the server and on all clients, others in each round."""
        return self.benchmark.public(count, seeding.derive(self.settings.seed, "public", round_))

    @cached_property
    def pool(self) -> ModelPool:
        """The base models."""
        images = self.benchmark.images if self.images is None else self.images
        return ModelPool(images=images, home=self.cache, device=self.settings.device)

    @cached_property
    def schedule(self) -> participation.Schedule:
        """Who trains when."""
        return participation.schedule(self.settings)

    @cached_property
    def method(self) -> Method[Any]:
        """The federated method."""
        return make_method(self.settings.method, self.settings.method_settings)

    @property
    def shape(self) -> AdapterSettings:
        """The adapters' settings: without blocks if the method has no Co-LoRA, with the method's gate if it has one."""
        own = {} if self.method.colora else {"blocks": 0}
        return self.settings.adapter.model_copy(update=own | ({"gate": self.method.gate} if self.method.gate else {}))

    @cached_property
    def alignment(self) -> Alignment | None:
        """Co-LoRA's frozen bases, the same for all clients of an architecture; None where each draws its own."""
        if is_alignment(self._kept_alignment):
            return Alignment.load(self._kept_alignment)
        return alignment_for(
            self.settings.scenario.models,
            lambda name: self.pool.model(name).architecture,
            home=home(),
            rank=self.shape.rank,
            blocks=self.shape.blocks,
            mode=self.shape.alignment,
            device=self.settings.device,
        )

    def keep_alignment(self) -> None:
        """Store the bases beside the states whose P and Q they give a meaning, whatever is shipped or made later."""
        if self.alignment is not None and not is_alignment(self._kept_alignment):
            self._kept_alignment.mkdir(parents=True, exist_ok=True)
            with FileLock(self._kept_alignment / "lock"):
                self.alignment.save(self._kept_alignment)

    @property
    def _kept_alignment(self) -> Path:
        return self.folder / "alignment"

    def adapter(self, spec: ClientSpec) -> Adapter:
        """The adapter modules of a client's base model, which the clients of this model take turns in."""
        adapter = self.pool.adapter(
            spec.model,
            slots=self.method.slots,
            settings=self.shape,
            gated=self.method.answers_with == "gate",
            seed=seeding.derive(self.settings.seed, "adapter"),
        )
        if spec.model not in self._starts:
            if self.alignment is not None:
                adapter.load_basis(self.alignment.basis(self.pool.model(spec.model).architecture))
            self._starts[spec.model] = adapter_state(adapter)
        return adapter

    def start(self, spec: ClientSpec) -> dict[str, Tensor]:
        """State of a client that has not trained yet: the same draw for all clients of one architecture.

        A client that brings a LoRA starts with it in every slot, as slots start alike anyway.
        """
        adapter = self.adapter(spec)
        start = self._starts[spec.model]
        if (imported := self.imported(spec)) is None:
            return start
        slots = {f"slot.{slot.name}|{name}": t for slot in adapter.slots for name, t in imported.tensors.items()}
        return start | slots

    def imported(self, spec: ClientSpec) -> StartingSlot | None:
        """The PEFT LoRA that a client starts from, if it brings one.

        Raises:
            ModelError: the folder cannot be read, or does not fit the client's model and the adapter settings.
        """
        if not spec.start:
            return None
        key = (spec.model, spec.start)
        if key not in self._imports:
            adapter = self.adapter(spec)
            first = f"slot.{adapter.slots[0].name}|"
            start = self._starts[spec.model]
            initial = {name.removeprefix(first): t for name, t in start.items() if name.startswith(first)}
            self._imports[key] = starting_slot(adapter, initial, Path(spec.start).expanduser())
        return self._imports[key]

    def store(self, client_id: int) -> ClientStore:
        """A participant's private states."""
        return ClientStore(self.folder / f"client-{client_id:03d}")

    def base_scores(self, spec: ClientSpec, tasks: Sequence[str], count: int) -> dict[str, TaskScore]:
        """Scores of a client's base model without adapter; see :meth:`scores`."""

        def measure() -> dict[str, TaskScore]:
            with self.adapter(spec).disabled():
                return self.scores(model, tasks, count)

        model = self.pool.model(spec.model)
        return self._known.get(model.architecture, self._samples(tasks, count), measure)

    @cached_property
    def _known(self) -> BaseScores:
        images = self.benchmark.images if self.images is None else self.images
        return BaseScores(self.cache / "scores", self.settings.evaluation, images.fingerprint)

    def scores(self, model: BaseModel, tasks: Sequence[str], count: int) -> dict[str, TaskScore]:
        """Scores on the first ``count`` samples of each task, 0 for all; tasks share batches."""
        how, samples = self.settings.evaluation, self._samples(tasks, count)
        together = score_samples(
            model,
            [sample for each in samples.values() for sample in each],
            batch_size=how.batch_size,
            open_metric=how.open_metric,
            answer_tokens=how.answer_tokens,
        )
        single = iter(together.scores)
        return {task: TaskScore(tuple(next(single) for _ in each)) for task, each in samples.items()}

    def _samples(self, tasks: Sequence[str], count: int) -> dict[str, tuple[Sample, ...]]:
        split = self.settings.evaluation.split
        return {task: self.benchmark.task(task).split(split)[: count or None] for task in tasks}


class Participant:
    """One client of a run: answers the server's messages from its own state.

    A round is trained from the stored state of the last round in which the client trained before it, so a repeated
    message gives the same reply.
    """

    def __init__(self, machine: Machine, client_id: int) -> None:
        self.machine = machine
        self.spec = machine.settings.scenario.client(client_id)
        self.base = machine.pool.model(self.spec.model)
        machine.method.prepare(machine.pool, machine.settings)
        self.store = machine.store(client_id)
        tasks = [_share(machine.benchmark.task(name), self.spec.shares.get(name)) for name in self.spec.tasks]
        settings = machine.settings
        rounds = self.spec.rounds(settings.rounds)
        self._trained = [round_ for round_ in rounds if client_id in machine.schedule[round_]]
        self.stream = Stream(
            tasks,
            protocol=settings.scenario.protocol,
            rounds=len(rounds),
            seed=seeding.derive(settings.seed, "stream", client_id),
            first=rounds.start,
            idle=set(rounds) - set(self._trained),
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
        self.machine.keep_alignment()
        self.store.save(round_, state)
        self._latest = (round_, state)
        events.emit(
            "trained", client=self.spec.id, round=round_, loss=client.meter.loss, seconds=round(client.meter.seconds, 3)
        )
        return method.upload(client), client.meter

    def dry_round(self) -> tuple[Upload, Meter]:
        """The client's first round: its upload and its cost; nothing is kept."""
        client = self._client(self.spec.joins, after=0)
        self.machine.method.receive(client, {})
        client.timed(lambda each: self.machine.method.train(each, each.budget()))
        tensors = self.machine.method.upload(client)
        upload = Upload(self.spec.id, self.base.architecture, tensors, client.meter.samples, client.round)
        return upload, client.meter

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
        """The client in its state after a round: that in which the last round that it trained in has left it."""
        return self._client(round_, after=round_)

    def state_after(self, round_: int) -> dict[str, Tensor]:
        """The stored state behind :meth:`client_after`; the common start if the client has not trained yet.

        Raises:
            RunError: the client trained, but its state is not there.
        """
        trained = max((each for each in self._trained if each <= round_), default=0)
        if trained == 0:
            return self.machine.start(self.spec)
        if self._latest is not None and self._latest[0] == trained:
            return self._latest[1]
        return self.store.load(trained)

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
            public=self.machine.public,
        )
        client.secret = self.store.secret
        client.restore(self.state_after(after))
        return client


def _share(task: Task, share: tuple[float, float] | None) -> Task:
    """The task with a fraction of its train samples, at least one."""
    if share is None:
        return task
    low, high = (round(edge * len(task.train)) for edge in share)
    low = min(low, len(task.train) - 1)
    return dataclasses.replace(task, train=task.train[low : max(high, low + 1)])
