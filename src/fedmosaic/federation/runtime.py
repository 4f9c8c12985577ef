"""What the participants of a run share on one machine: settings, models, data, features, and the disk they write to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import Adapter
from fedmosaic.adapters.start import Start, client_start
from fedmosaic.alignment import Alignment, is_alignment
from fedmosaic.config import AdapterSettings, ClientSpec, RunSettings, home
from fedmosaic.data.benchmark import Benchmark, load_benchmark
from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import Sample
from fedmosaic.evaluation import TaskScore, score_samples
from fedmosaic.federation import participation
from fedmosaic.federation.alignment import alignment_for
from fedmosaic.federation.base_scores import BaseScores
from fedmosaic.federation.client_store import ClientStore, averaged
from fedmosaic.federation.input_digests import InputDigests
from fedmosaic.methods.base import Method
from fedmosaic.methods.registry import make_method
from fedmosaic.models import BaseModel
from fedmosaic.training import ModelPool, adapter_state


@dataclass
class Runtime:
    """What all participants of a run on one machine share.

    Attributes:
        settings: the run's settings.
        folder: where the participants' private states live.
        images: where images come from, if not from the benchmark.
        cache: where image features are kept.
        kind: of the pool of base models.
    """

    settings: RunSettings
    folder: Path
    images: ImageSource | None = None
    cache: Path = field(default_factory=home)
    kind: type[ModelPool] = ModelPool
    _starts: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _imports: dict[tuple[str, str], Start] = field(default_factory=dict)
    _stores: dict[int, ClientStore] = field(default_factory=dict)

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
        own = self.settings
        return self.kind(images=images, home=self.cache, device=own.device, dtype=own.model.dtype)

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
            dtype=self.settings.model.dtype,
        )

    def keep_alignment(self) -> None:
        """Store the bases beside the states whose P and Q they give a meaning, whatever is shipped or made later."""
        if self.alignment is not None and not is_alignment(self._kept_alignment):
            self._kept_alignment.mkdir(parents=True, exist_ok=True)
            with FileLock(self._kept_alignment / "lock"):
                self.alignment.save(self._kept_alignment)

    @cached_property
    def inputs(self) -> InputDigests:
        """The note of what the states are made from, beside them."""
        return InputDigests(
            self.folder / "inputs.json", self.settings.scenario, lambda: self.benchmark, self.pool.model
        )

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

        A client that brings a LoRA starts with it in every slot, as slots start alike anyway, or with its parts.
        """
        self.adapter(spec)
        start = self._starts[spec.model]
        if (imported := self.imported(spec)) is None:
            return start
        slots = {f"slot.{slot}|{name}": t for slot, own in imported.slots.items() for name, t in own.tensors.items()}
        return start | slots | {f"gate|{name}": t for name, t in imported.gates.items()}

    def imported(self, spec: ClientSpec) -> Start | None:
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
            folder, mixture = Path(spec.start).expanduser(), self.method.answers_with
            self._imports[key] = client_start(adapter, initial, folder, answers_with=mixture)
        return self._imports[key]

    # ---- what is kept of each client -----------------------------------------------------------------------------

    def store(self, client_id: int) -> ClientStore:
        """A participant's private states."""
        if client_id not in self._stores:
            keep = max(2, self.settings.training.averaged_rounds)  # 2: a repeated round starts from the state before it
            self._stores[client_id] = ClientStore(self.folder / f"client-{client_id:03d}", keep=keep)
        return self._stores[client_id]

    def trained(self, spec: ClientSpec, *, until: int) -> list[int]:
        """The rounds up to one in which a client trains."""
        return [each for each in spec.rounds(self.settings.rounds) if each <= until and spec.id in self.schedule[each]]

    def state_after(self, spec: ClientSpec, round_: int) -> dict[str, Tensor]:
        """The state in which the last round up to this one that it trained in has left a client.

        The common start if it has not trained yet.

        Raises:
            RunError: the client trained, but its state is not there.
        """
        return self._last_states(spec, round_, 1)[-1]

    def answering_state(self, spec: ClientSpec, round_: int) -> dict[str, Tensor]:
        """The state that a client answers with: :meth:`state_after`, averaged over ``training.averaged_rounds``.

        Raises:
            RunError: the client trained, but a state is not there.
        """
        return averaged(self._last_states(spec, round_, self.settings.training.averaged_rounds))

    def _last_states(self, spec: ClientSpec, round_: int, count: int) -> list[dict[str, Tensor]]:
        trained = self.trained(spec, until=round_)[-count:]
        return [self.store(spec.id).load(each) for each in trained] or [self.start(spec)]

    # ---- scores --------------------------------------------------------------------------------------------------

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
        return BaseScores(self.cache / "scores", self.settings.evaluation, images)

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
