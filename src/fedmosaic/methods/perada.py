"""PerAda (Xie et al., CVPR 2024, arXiv 2302.06637), adapted to adapters of different base models.

Client k, which received theta^t:

    theta_k <- theta_k - lr * grad F_k(theta_k)                                     from theta^t
    v_k     <- v_k - lr * grad [F_k(v_k) + lam ||v_k - theta^t||²]

Server, for each architecture m, on public samples:

    theta_m = mean_{k: m(k) = m} theta_k
    theta_m <- theta_m - lr * grad T² KL(p || softmax(z_m / T))

v never leaves the client and is what it answers with; every teacher predicts with its theta. Original: p is the softmax
of the mean of all clients' logits, up to 500 steps. Here, as logits of different vocabularies have no mean, it is that
within each architecture, and the mean of these distributions, weighted by the number of clients, over architectures.
With one architecture the two are equal. One pass over the public samples, others in each round. A lam of 1 is a value
for SGD: under AdamW, whose steps do not grow with the gradient, it is 3 to 4 times the loss's own gradient and keeps v
where theta is; lam was chosen on validation samples of mosaic40 from 0.001 to 1 (docs/field-without-tower.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, ServerState, mean_within_architecture
from fedmosaic.methods.ensemble_distillation import DistillationSettings, EnsembleDistiller, distil_from_all
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import Budget, Client, proximal


@dataclass(frozen=True, kw_only=True)
class PerAdaSettings(DistillationSettings):
    """Values of the paper where it has them."""

    lam: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    """Pull of the personal slot towards the received weights (paper: 1, or 0.1 on Office, for SGD)."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    """T (the study's)."""


class PerAda(Method[PerAdaSettings]):
    """A shared and a personal LoRA; the shared one is distilled on the server."""

    name = "perada"
    title = "PerAda"
    slots = (Slot("shared", communicated=True), Slot("personal", communicated=False))
    answers_with = "personal"
    heterogeneity = "tasks, architectures and tokenizers"
    Settings = PerAdaSettings

    def train(self, client: Client, budget: Budget) -> None:
        """Train both slots on every batch, each with its own loss. See :meth:`Method.train`."""
        pull = proximal("personal", client.snapshot("shared"), 2 * self.settings.lam)
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix="shared")
            client.step(batch, slots=("personal",), mix="personal", penalty=pull)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average theta within each architecture, and let each mean learn from all clients.

        See :meth:`Method.aggregate`.
        """
        means = mean_within_architecture(uploads)
        distiller = EnsembleDistiller(uploads, state, self.settings, "shared")
        learned = distil_from_all(means, distiller, temperature=self.settings.temperature, mean_of="logits")
        return Aggregation(downloads=learned)
