"""FedDAT (Chen et al., AAAI 2024, arXiv 2308.12305): a dual-adapter teacher and mutual distillation.

With s the shared slot, l the local one, s_0 a frozen copy of s as received, z the logits with these slots, and the
dual-adapter teacher (DAT) the mean of l and s_0, for every batch:

    s <- s - lr * grad 1/2 (CE(z_s) + T^2 KL(z_DAT || z_s))
    l <- l - lr * grad 1/2 (CE(z_DAT) + T^2 KL(z_s || z_DAT))

Targets are softmax(z / T) without gradients. As in the authors' code, three passes are made for the two steps: z_DAT of
the first line is that of a teacher without dropout, z_s of the second is what the first step has computed on its way.
s is averaged by the server; l never leaves the client, which answers with its DAT.

Original: bottleneck adapters in vision-language encoders, T = 3. Adapted: LoRA slots; averages within an architecture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Slot, SlotWeights
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, mean_within_architecture
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.training import Budget, Client, LocalBatch, cross_entropy
from fedmosaic.training.losses import distillation

_DAT = {"local": 0.5, "received": 0.5}


@dataclass(frozen=True, kw_only=True)
class FedDatSettings(MethodSettings):
    """Values of the paper (docs/method-facts.md#feddat)."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.0
    """T of both distillations."""


class FedDat(Method[FedDatSettings]):
    """A shared LoRA and a dual adapter that teach each other."""

    name = "feddat"
    title = "FedDAT"
    slots = (Slot("shared", communicated=True), Slot("local", communicated=False), Slot("received", communicated=False))
    answers_with = _DAT
    robust = True
    heterogeneity = "tasks"
    Settings = FedDatSettings

    def receive(self, client: Client, download: Tensors) -> None:
        """Take up the shared slot and keep a frozen copy of it. See :meth:`Method.receive`."""
        super().receive(client, download)
        client.adapter.copy_slot("shared", "received")

    def train(self, client: Client, budget: Budget) -> None:
        """Train the shared slot with the DAT as its teacher, then the local one the other way round.

        See :meth:`Method.train`.
        """
        for batch in client.batches(budget):
            dat = client.predict(batch, mix=_DAT).logits
            shared = self._step(client, batch, "shared", mix="shared", teacher=dat)
            self._step(client, batch, "local", mix=_DAT, teacher=shared)

    def _step(self, client: Client, batch: LocalBatch, slot: str, *, mix: SlotWeights, teacher: Tensor) -> Tensor:
        """Train a slot within a mix, on the answers and on a teacher's logits; return the logits before the step."""
        logits: list[Tensor] = []

        def objective() -> Tensor:
            given = client.answers(batch, mix=mix)
            logits.append(given.logits.detach())
            return (cross_entropy(given) + distillation(teacher, given.logits, self.settings.temperature)) / 2

        client.descend(objective, batch, slots=(slot,))
        return logits[0]

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=mean_within_architecture(uploads))
