"""FedDistill as in the FedMosaic study: FedAvg, then distillation from all clients (cf. FedDF, arXiv 2006.07242).

    theta_m = mean_{k: m(k) = m} theta_k                                     for each architecture m
    theta_m <- theta_m - lr * grad T² KL(mean_k softmax(z_k / T) || softmax(z_m / T))     on public samples

Original: this is the study's baseline, and not the FedDistill that exchanges one mean logit vector per label. It takes
the mean of logits, leaves out T² and sees the same samples in every round. Here the mean is of probabilities, which
models of different vocabularies can share (:mod:`fedmosaic.training.token_alignment`); every round has other samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, ServerState, mean_within_architecture
from fedmosaic.methods.ensemble_distillation import DistillationSettings, EnsembleDistiller, distil_from_all
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import Budget, Client


@dataclass(frozen=True, kw_only=True)
class FedDistillSettings(DistillationSettings):
    """Values of the study."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    """T."""


class FedDistill(Method[FedDistillSettings]):
    """One shared LoRA per architecture, taught by the clients of all."""

    name = "feddistill"
    title = "FedDistill"
    slots = (Slot("shared", communicated=True),)
    answers_with = "shared"
    heterogeneity = "architectures and tokenizers"
    Settings = FedDistillSettings

    def train(self, client: Client, budget: Budget) -> None:
        """Train the shared slot from what was received. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix=self.answers_with)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture, and let each mean learn from all clients. See :meth:`Method.aggregate`."""
        means = mean_within_architecture(uploads)
        distiller = EnsembleDistiller(uploads, state, self.settings, "shared")
        learned = distil_from_all(means, distiller, temperature=self.settings.temperature, mean_of="probabilities")
        return Aggregation(downloads=learned)
