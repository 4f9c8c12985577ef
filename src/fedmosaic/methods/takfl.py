"""TAKFL (Morafah et al., NeurIPS 2024, arXiv 2409.18461): transfer between device prototypes as task arithmetic.

A device prototype is an architecture here. For each, from its clients' mean theta_avg and for each group j of teachers:

    theta_j = argmin T² KL(p_j || softmax(z / T)) + gamma T_self² KL(p_avg || softmax(z / T_self)),  from theta_avg
    tau_j   = theta_j - theta_avg
    theta   = theta_avg + sum_j lam_j tau_j

p_j is the softmax of the mean logits of the clients of architecture j at T, p_avg the prediction of theta_avg itself at
T_self. Every tau_j starts anew from theta_avg, and p_avg never moves. Of the lam with sum_j lam_j = 1 on a lattice of
about 15 points that is chosen which does best on held-out public samples (the paper: on validation data). Original: all
weights are trained, in several passes. Here LoRA weights are, in one; teachers of another tokenizer are translated
(:mod:`fedmosaic.training.token_alignment`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, ServerState, mean_within_architecture
from fedmosaic.methods.ensemble_distillation import DistillationSettings, EnsembleDistiller
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.training import Budget, Client
from fedmosaic.training.distillation import TeacherPredictions

Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class TakflSettings(DistillationSettings):
    """Values of the paper."""

    temperature: Temperature = 3.0
    """T."""
    self_temperature: Temperature = 20.0
    """T_self."""
    gamma: Factor = 0.01
    """Strength of the self-regularisation."""
    lam: Factor | None = None
    """lam_j, the same for all groups; None: chosen. 0 is FedAvg."""


class Takfl(Method[TakflSettings]):
    """One shared LoRA per architecture, to which one task vector per group of teachers is added."""

    name = "takfl"
    title = "TAKFL"
    slots = (Slot("shared", communicated=True),)
    answers_with = "shared"
    heterogeneity = "architectures and tokenizers"
    Settings = TakflSettings

    def train(self, client: Client, budget: Budget) -> None:
        """Train the shared slot from what was received. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix=self.answers_with)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture, and add what each mean learns from each group of teachers.

        See :meth:`Method.aggregate`.
        """
        means = mean_within_architecture(uploads)
        distiller = EnsembleDistiller(uploads, state, self.settings, "shared")
        predictions = list(
            distiller.predictions_by_architecture(temperature=self.settings.temperature, mean_of="logits").values()
        )
        choices = mixtures(len(predictions)) if self.settings.lam is None else [(self.settings.lam,) * len(predictions)]
        downloads: dict[int, dict[str, Tensor]] = {}
        for architecture in distiller.students:
            clients = distiller.groups[architecture]
            mean = means[clients[0]]
            vectors = self._task_vectors(distiller, architecture, mean, predictions)
            merged = distiller.best(architecture, [_merged(mean, vectors, lam) for lam in choices])
            downloads.update(dict.fromkeys(clients, merged))
        return Aggregation(downloads=downloads)

    def _task_vectors(
        self,
        distiller: EnsembleDistiller,
        architecture: str,
        mean: dict[str, Tensor],
        predictions: list[TeacherPredictions],
    ) -> list[dict[str, Tensor]]:
        """Return tau_j for each group j of teachers."""
        own = distiller.predictions(architecture, [mean], temperature=self.settings.self_temperature)
        keep = distiller.targets(
            architecture, [own], temperature=self.settings.self_temperature, strength=self.settings.gamma
        )
        vectors = []
        for prediction in predictions:
            target = distiller.targets(architecture, [prediction], temperature=self.settings.temperature)
            learned = distiller.learn(architecture, mean, [target, keep])
            vectors.append({name: learned[name] - tensor for name, tensor in mean.items()})
        return vectors


def mixtures(groups: int, *, most: int = 15) -> list[tuple[float, ...]]:
    """Return the points of the finest lattice of at most ``most`` points with sum 1 and no negative, and the middle.

    Args:
        groups: the length of a point, at least 1.
        most: with more groups than that, the corners alone are taken.
    """
    steps = 1
    while groups > 1 and math.comb(steps + groups, groups - 1) <= most:
        steps += 1
    shared_out = itertools.combinations_with_replacement(range(groups), steps)  # who gets each of the steps
    points = [tuple(owners.count(group) / steps for group in range(groups)) for owners in shared_out]
    middle = (1 / groups,) * groups
    return points if middle in points else [*points, middle]


def _merged(mean: Mapping[str, Tensor], vectors: Sequence[Mapping[str, Tensor]], lam: Sequence[float]) -> Tensors:
    """Return theta_avg with task vectors added."""
    weighed = list(zip(lam, vectors, strict=True))
    return {name: tensor + sum(each * vector[name] for each, vector in weighed) for name, tensor in mean.items()}
