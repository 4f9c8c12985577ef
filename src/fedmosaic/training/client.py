"""A client as a method sees it: batches in, optimiser steps, slots to read and write, and private memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedmosaic import events, seeding
from fedmosaic.adapters import Adapter, SlotWeights
from fedmosaic.config import ClientSpec, TrainingSettings
from fedmosaic.data.sample import Sample
from fedmosaic.data.stream import Stream
from fedmosaic.errors import RunError
from fedmosaic.models import AnswerLogits, BaseModel, Batch
from fedmosaic.models.base import IGNORED
from fedmosaic.models.device import within_memory
from fedmosaic.training.budget import Budget, Meter, steps_of
from fedmosaic.training.client_state import ClientState
from fedmosaic.training.lane import clock, current_lane
from fedmosaic.training.losses import Penalty, cross_entropy
from fedmosaic.training.optimiser import SlotOptimiser
from fedmosaic.training.resources import Resources
from fedmosaic.training.step_together import WantedStep


@dataclass(frozen=True)
class LocalBatch:
    """A batch of samples.

    Attributes:
        samples: B samples.
        inputs: the same samples as the client's own base model reads them: token ids, labels and images.
    """

    samples: Sequence[Sample]
    inputs: Batch


class Client:
    """One participant during one message; between messages it is a :class:`ClientState` on the client's own disk.

    Args:
        spec: who it is: its id, base model and tasks.
        adapter: attached to the base model of this name in the pool; clients of one model take turns in it.
        resources: the run's settings, base models and public samples.
        round_: the round that is being trained, from 1.
        stream: the client's own samples; None for a trainee of the server, which has public samples only.
        rate: factor of the adapters' learning rates.
        base: the base model, if not the one of this name in the pool.
        training: the training settings, if not the run's.
        proxy: the client as it trains its proxy model, if the method has one.

    Attributes:
        spec: see above.
        proxy: see above; with an adapter, an optimiser and a meter of its own, and the same samples.
        base: the base model.
        adapter: the slots, attached to the base model.
        settings: of the run, with this client's learning rates.
        round: the round that is being trained.
        meter: what the client has done in this message.
        memory: private tensors that a method keeps between rounds (e.g. the running sketch).
        optimiser: of all slots and gates.
        secret: gives the key of this client's private randomness; from the run's seed, unless the federation replaces
            it by one that never leaves the client.
    """

    def __init__(
        self,
        spec: ClientSpec,
        adapter: Adapter,
        resources: Resources,
        round_: int,
        *,
        stream: Stream | None = None,
        rate: float = 1.0,
        base: BaseModel | None = None,
        training: TrainingSettings | None = None,
        proxy: Client | None = None,
    ) -> None:
        self.spec = spec
        self.adapter = adapter
        self.proxy = proxy
        self._is_proxy = False
        if proxy is not None:
            proxy._is_proxy = True
        self.settings = resources.settings.with_rates(rate)
        if training is not None:
            self.settings = self.settings.model_copy(update={"training": training})
        self.round = round_
        self.base = resources.pool.model(spec.model) if base is None else base
        self.memory: dict[str, Tensor] = {}
        self.meter = Meter()
        self.optimiser = SlotOptimiser(adapter.named_groups(), self.settings.training)
        self.secret: Callable[[], bytes] = lambda: seeding.derive(self.settings.seed, "secret", spec.id).to_bytes(32)
        self._resources = resources
        self._stream = stream
        self._lane = current_lane()
        if self._lane is not None:
            self._lane.enter(self)

    @property
    def id(self) -> int:
        """The client's id in the scenario."""
        return self.spec.id

    # ---- what a method calls -------------------------------------------------------------------------------------

    def budget(self) -> Budget:
        """This round's allowance."""
        return Budget(steps_of(self.settings, self.id, self.round))

    def batches(self, budget: Budget) -> Iterator[LocalBatch]:
        """Yield the round's batches, one per step, drawn from the client's task stream.

        Args:
            budget: how many.

        Raises:
            ValueError: the client is a trainee of the server.
        """
        drawn = self._own_stream.batches(self.round, budget.steps, self.settings.training.batch_size)
        for step, samples in enumerate(drawn, start=1):
            yield LocalBatch(samples, self.base.collate(samples))
            events.emit(
                "step",
                client=self.id,
                round=self.round,
                step=step,
                steps=len(drawn),
                loss=self.meter.loss,
                proxy=self._is_proxy,
            )

    def samples_since(self, after: int) -> list[Sample]:
        """Return the client's own samples that arrived in the rounds after one round, up to this one.

        Args:
            after: the last round whose samples are not meant; 0: none.
        """
        return self._own_stream.samples_since(after, until=self.round)

    @property
    def arrival_counts(self) -> list[int]:
        """How many samples arrive in each round in which any do, over the whole stream."""
        return self._own_stream.arrival_counts

    @property
    def _own_stream(self) -> Stream:
        if self._stream is None:
            raise ValueError("a trainee of the server has no samples of its own; train it on public_batches()")
        return self._stream

    def public_batches(self, count: int, *, round_: int | None = None) -> list[LocalBatch]:
        """Return public samples in batches; on the server and all clients the same in one round.

        Args:
            count: how many samples.
            round_: whose samples, e.g. the last round's, to use knowledge about them; default: this round's.

        Raises:
            SettingsError: the benchmark has no public samples.
        """
        samples = self._resources.public(count, self.round if round_ is None else round_)
        size = self.settings.training.batch_size
        chunks = [samples[start : start + size] for start in range(0, count, size)]
        return [LocalBatch(chunk, self.base.collate(chunk)) for chunk in chunks]

    def answers(self, batch: LocalBatch, *, mix: SlotWeights) -> AnswerLogits:
        """Return logits (n, V) and targets (n,) of a batch's n answer tokens; metered with the backward pass to come.

        Args:
            batch: the samples.
            mix: how the slots enter the output.
        """
        with self.adapter.mixed(mix):
            self._meter_pass(batch.inputs, mix)
            return self.base.answer_logits(batch.inputs)

    def predict(self, batch: LocalBatch, *, mix: SlotWeights) -> AnswerLogits:
        """Return the same as :meth:`answers`, without gradients and without dropout, as for a teacher.

        Args:
            batch: the samples.
            mix: how the slots enter the output.
        """
        with self._as_teacher():
            return self.answers(batch, mix=mix)

    def embed(self, samples: Sequence[Sample], *, mix: SlotWeights) -> Tensor:
        """Return the last hidden state at the end of each sample's prompt, computed as in :meth:`predict`.

        Args:
            samples: B of them; their answers are not used.
            mix: how the slots enter the output.

        Returns:
            (B, d).
        """
        inputs = self.base.collate(samples, with_answers=False)
        with self._as_teacher(), self.adapter.mixed(mix):
            self._meter_pass(inputs, mix)
            return self.base.hidden_states(inputs)[torch.arange(len(samples)), inputs.last]

    def loss(self, batch: LocalBatch, *, mix: SlotWeights) -> Tensor:
        """Return the mean token cross-entropy over the answers (a scalar; nats).

        Args:
            batch: the samples.
            mix: how the slots enter the output.
        """
        return cross_entropy(self.answers(batch, mix=mix))

    def step(
        self,
        batch: LocalBatch,
        *,
        slots: Sequence[str],
        mix: SlotWeights,
        gate: bool = False,
        frozen: Collection[str] = (),
        penalty: Penalty | None = None,
    ) -> None:
        """Take one optimiser step on the answer loss.

        Args:
            batch: what to learn from.
            slots: the slots that train; all others, and the base model, stay frozen.
            mix: how the slots enter the output.
            gate: whether the gate trains too.
            frozen: letters of tensors of these slots that stay as they are, e.g. ``A``.
            penalty: added to the loss, e.g. a pull towards received weights.
        """
        size = self.settings.training.micro_batch
        if size and size < len(batch.samples):
            self._step_in_parts(
                self._parts(batch, size), slots=slots, mix=mix, gate=gate, frozen=frozen, penalty=penalty
            )
            return
        if self._lane is not None and not self.adapter.on_changed_base:
            loss = self._lane.step(WantedStep(self, batch.inputs, slots, mix, gate, frozen, penalty))
            if loss is not None:  # the step was taken, with others'
                with self.adapter.mixed(mix):
                    self._meter_pass(batch.inputs, mix)
                self._meter_step(loss, batch)
                return

        def objective() -> Tensor:
            return self.loss(batch, mix=mix)

        self.descend(objective, batch, slots=slots, gate=gate, frozen=frozen, penalty=penalty)

    def descend(
        self,
        objective: Callable[[], Tensor],
        batch: LocalBatch,
        *,
        slots: Sequence[str],
        gate: bool = False,
        frozen: Collection[str] = (),
        penalty: Penalty | None = None,
    ) -> None:
        """Take one optimiser step on any loss made of :meth:`answers`, :meth:`loss` and :meth:`predict`.

        Args:
            objective: returns the loss; called once, when exactly what trains requires gradients.
            batch: what it learns from (for the meter).
            slots: the slots that train.
            gate: whether the gate trains too.
            frozen: letters of tensors of these slots that stay as they are, e.g. ``A``.
            penalty: added to the loss, but not to the reported one.
        """
        self.adapter.train_only(*slots, gate=gate, frozen=frozen)
        loss = objective()
        self._meter_step(loss.item(), batch)
        self.optimiser.step(loss if penalty is None else loss + penalty(self.adapter))

    def _parts(self, batch: LocalBatch, size: int) -> list[LocalBatch]:
        """Cut a batch into parts of so many samples, each padded to its own longest."""
        parts = []
        for start in range(0, len(batch.samples), size):
            rows = slice(start, start + size)
            inputs, weights = self.base.collate(batch.samples[rows]), batch.inputs.slot_weights
            if weights is not None:
                inputs = replace(inputs, slot_weights={name: each[rows] for name, each in weights.items()})
            parts.append(LocalBatch(batch.samples[rows], inputs))
        return parts

    def _step_in_parts(
        self,
        parts: Sequence[LocalBatch],
        *,
        slots: Sequence[str],
        mix: SlotWeights,
        gate: bool,
        frozen: Collection[str],
        penalty: Penalty | None,
    ) -> None:
        """Take one step on the mean answer loss over the tokens of all parts, one after the other."""
        self.adapter.train_only(*slots, gate=gate, frozen=frozen)
        tokens = [int((part.inputs.labels[:, 1:] != IGNORED).sum()) for part in parts]

        def terms() -> Iterator[Tensor]:
            for part, count in zip(parts, tokens, strict=True):
                loss = self.loss(part, mix=mix) * (count / sum(tokens))
                self.meter.loss_sum += loss.item()
                yield loss
            if penalty is not None:
                yield penalty(self.adapter)

        self.optimiser.step_on_sum(terms())
        self.meter.samples += sum(len(part.samples) for part in parts)
        self.meter.tokens += sum(_read(part) for part in parts)
        self.meter.steps += 1

    def snapshot(self, slot: str) -> dict[str, Tensor]:
        """Return a copy of a slot's tensors.

        Args:
            slot: its name.
        """
        return self.adapter.slot_tensors(slot)

    @contextmanager
    def _as_teacher(self) -> Iterator[None]:
        """Without gradients and without dropout."""
        training = self.adapter.training
        self.adapter.train(False)
        try:
            with torch.no_grad():
                yield
        finally:
            self.adapter.train(training)

    def _meter_pass(self, inputs: Batch, mix: SlotWeights) -> None:
        """Count a forward pass, and a backward pass where gradients will be asked for."""
        trained = self.adapter.opened if torch.is_grad_enabled() else None
        self.meter.flops += self._resources.pool.pass_flops(self.base, inputs, trained=trained, mix=str(mix))

    def _meter_step(self, loss: float, batch: LocalBatch) -> None:
        self.meter.loss_sum += loss
        self.meter.samples += len(batch.samples)
        self.meter.tokens += _read(batch)
        self.meter.steps += 1

    @property
    def spent(self) -> Meter:
        """What the client has done in this message: steps, samples, loss of its own model; tokens and FLOPs of both."""
        if self.proxy is None:
            return replace(self.meter)
        other = self.proxy.meter
        return replace(self.meter, flops=self.meter.flops + other.flops, tokens=self.meter.tokens + other.tokens)

    # ---- what the federation calls -------------------------------------------------------------------------------

    def timed(self, work: Callable[[Client], None]) -> None:
        """Run one round's work in training mode with a fixed random seed, and meter its time.

        Args:
            work: called with this client.
        """
        torch.manual_seed(seeding.derive(self.settings.seed, "train", self.id, self.round))
        start = clock()
        adapters = [each.adapter for each in (self, self.proxy) if each is not None]
        for adapter in adapters:
            adapter.train()
        try:
            with within_memory(self.base.device, f"client {self.id} trains in round {self.round}"):
                work(self)
        finally:
            for adapter in adapters:
                adapter.train(False)
            self.meter.seconds += clock() - start

    def state(self) -> ClientState:
        """Return copies of everything that must outlive this message."""
        return replace(
            ClientState.of_adapter(self.adapter),
            moments=self.optimiser.moments(),
            memory=dict(self.memory),
            proxy=None if self.proxy is None else self.proxy.state(),
        )

    def restore(self, state: ClientState) -> None:
        """Take over a state: slots, gate, optimiser moments and memory.

        Args:
            state: as :meth:`state` returns it; it is copied.

        Raises:
            ModelError: it is of another adapter.
            RunError: the client has a proxy model, and the state none.
        """
        if self.proxy is not None:
            if state.proxy is None:
                raise RunError(f"the state of client {self.id} has no proxy model; it is of a run of another method")
            self.proxy.restore(state.proxy)
        state.load_into(self.adapter)
        self.optimiser.load_moments(state.moments)
        self.memory = {name: tensor.clone() for name, tensor in state.memory.items()}


def _read(batch: LocalBatch) -> int:
    """Return how many tokens a batch has, without padding."""
    return int(batch.inputs.attention_mask.sum())
