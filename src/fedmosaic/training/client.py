"""A client as a method sees it: batches in, optimiser steps, slots to read and write, and private memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import Adapter, Weights
from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.data.sample import Sample
from fedmosaic.data.stream import Stream
from fedmosaic.models import BaseModel, Batch
from fedmosaic.training import events
from fedmosaic.training.budget import Budget, Meter
from fedmosaic.training.optimiser import SlotOptimiser
from fedmosaic.training.pool import ModelPool

Penalty = Callable[[Adapter], Tensor]
Mix = str | Mapping[str, float]
"""How slots enter the output: ``"gate"``, the name of the one slot that does, or weights by slot."""


def weights(mix: Mix) -> Weights:
    """Return a mix in the adapter's words."""
    if mix == "gate":
        return "gate"
    return {mix: 1.0} if isinstance(mix, str) else mix


@dataclass(frozen=True)
class LocalBatch:
    """A drawn batch: the samples, and what the client's own base model reads."""

    samples: Sequence[Sample]
    inputs: Batch


class Client:
    """One participant during one message; between messages it is a :data:`state` on the client's own disk.

    Attributes:
        adapter: the slots, attached to the client's base model.
        memory: private tensors that a method keeps between rounds (e.g. the running sketch).
        round: the round that is being trained, from 1.
        secret: gives the key of this client's private randomness; from the run's seed, unless the federation replaces
            it by one that never leaves the client.
    """

    def __init__(
        self,
        spec: ClientSpec,
        *,
        base: BaseModel,
        adapter: Adapter,
        stream: Stream,
        pool: ModelPool,
        settings: RunSettings,
        round_: int,
    ) -> None:
        self.spec = spec
        self.base = base
        self.adapter = adapter
        self.pool = pool
        self.settings = settings
        self.round = round_
        self.memory: dict[str, Tensor] = {}
        self.meter = Meter()
        self.optimiser = SlotOptimiser(adapter.named_groups(), settings.training)
        self.secret: Callable[[], bytes] = lambda: seeding.derive(settings.seed, "secret", spec.id).to_bytes(32)
        self._stream = stream

    @property
    def id(self) -> int:
        """The client's id in the scenario."""
        return self.spec.id

    # ---- what a method calls -------------------------------------------------------------------------------------

    def budget(self) -> Budget:
        """This round's allowance."""
        return Budget(steps=self.settings.training.steps)

    def batches(self, budget: Budget) -> Iterator[LocalBatch]:
        """Yield the round's batches, one per step, drawn from the client's task stream."""
        drawn = self._stream.batches(self.round, budget.steps, self.settings.training.batch_size)
        for step, samples in enumerate(drawn, start=1):
            yield LocalBatch(samples, self.base.collate(samples))
            events.emit("step", client=self.id, round=self.round, step=step, steps=len(drawn), loss=self.meter.loss)

    def arrived(self, *, after: int) -> list[Sample]:
        """The samples that arrived in the rounds after a round, up to this one."""
        return [sample for cut in self._stream.cuts(after, self.round) for sample in cut]

    @property
    def arrivals(self) -> list[int]:
        """How many samples arrive in each round in which any do, over the whole run."""
        return [len(cut) for cut in self._stream.cuts(0, self.settings.rounds) if cut]

    def loss(self, batch: LocalBatch, *, mix: Mix) -> Tensor:
        """Mean token cross-entropy over the answers, with the slots mixed as given."""
        with self.adapter.mixed(weights(mix)):
            return self.base.loss(batch.inputs)

    def step(
        self, batch: LocalBatch, *, slots: Sequence[str], mix: Mix, gate: bool = False, penalty: Penalty | None = None
    ) -> None:
        """Take one optimiser step on the answer loss.

        Args:
            batch: what to learn from.
            slots: the slots that train; all others, and the base model, stay frozen.
            mix: how the slots enter the output.
            gate: whether the gate trains too.
            penalty: added to the loss, e.g. a pull towards received weights.
        """
        self.adapter.train_only(*slots, gate=gate)
        with self.adapter.mixed(weights(mix)):
            loss = self.base.loss(batch.inputs)
            self.meter.flops += self.pool.step_flops(self.spec.model, batch.inputs, key=(*slots, gate, str(mix)))
        self.meter.loss_sum += loss.item()
        self.meter.samples += len(batch.samples)
        self.meter.steps += 1
        self.optimiser.step(loss if penalty is None else loss + penalty(self.adapter))

    def snapshot(self, slot: str) -> dict[str, Tensor]:
        """A copy of a slot's tensors."""
        return self.adapter.slot_tensors(slot)

    # ---- what the federation calls -------------------------------------------------------------------------------

    def timed(self, work: Callable[[Client], None]) -> None:
        """Run one round's local work in training mode, reproducibly, and meter its time."""
        torch.manual_seed(seeding.derive(self.settings.seed, "train", self.id, self.round))
        start = time.perf_counter()
        self.adapter.train()
        try:
            work(self)
        finally:
            self.adapter.train(False)
            self.meter.seconds = time.perf_counter() - start

    def state(self) -> dict[str, Tensor]:
        """Everything that must outlive this message, as named tensors: slots, gate, moments, memory."""
        kept = {"moment": self.optimiser.moments(), "memory": self.memory}
        return adapter_state(self.adapter) | {
            f"{part}|{name}": tensor for part, table in kept.items() for name, tensor in table.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Become the client of this :meth:`state`."""
        parts: dict[str, dict[str, Tensor]] = {"gate": {}, "moment": {}, "memory": {}}
        for key, tensor in state.items():
            part, _, name = key.partition("|")
            parts.setdefault(part, {})[name] = tensor
        for slot in self.adapter.slots:
            self.adapter.load_slot(slot.name, parts.get(f"slot.{slot.name}", {}))
        self.adapter.load_gate(parts["gate"])
        self.optimiser.load_moments(parts["moment"])
        self.memory = {name: tensor.clone() for name, tensor in parts["memory"].items()}


def adapter_state(adapter: Adapter) -> dict[str, Tensor]:
    """All slots and gates of an adapter, as the part of a client's state that they are."""
    parts = {f"slot.{slot.name}": adapter.slot_tensors(slot.name) for slot in adapter.slots}
    parts["gate"] = adapter.gate_tensors()
    return {f"{part}|{name}": tensor for part, table in parts.items() for name, tensor in table.items()}
