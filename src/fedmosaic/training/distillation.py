"""Knowledge distillation from other models on public samples (Hinton et al., 2015, arXiv 1503.02531).

    p = mean over teachers of softmax(z_teacher / T), or softmax(mean z_teacher / T)
    loss = T² KL(p || softmax(z_student / T)), the mean over the answer tokens

Targets are always probabilities in the student's own tokens (:mod:`fedmosaic.training.token_alignment`), made once by
teachers without dropout. Softening them a second time, as published code does, leaves almost nothing
(docs/method-facts.md#targets-are-softened-twice).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fedmosaic.models import BaseModel
from fedmosaic.training.client import Client, LocalBatch
from fedmosaic.training.losses import cross_entropy
from fedmosaic.training.token_alignment import TokenAligner

EnsembleMean = Literal["probabilities", "logits"]
"""What the mean over the teachers of an ensemble is taken of."""


@dataclass(frozen=True)
class TeacherPredictions:
    """The mean prediction of an ensemble of teachers of one base model for the answers of public samples.

    Attributes:
        base: the teachers' base model.
        batches: the samples as it reads them.
        probabilities: (n, V) for each batch of n answer tokens; V is the base model's vocabulary size.
        teachers: the number of teachers in the ensemble.
    """

    base: BaseModel
    batches: Sequence[LocalBatch]
    probabilities: Sequence[Tensor]
    teachers: int = 1


@dataclass(frozen=True)
class DistillationTargets:
    """What a student is trained to predict, in its own tokens.

    Attributes:
        probabilities: (n, V) for each batch; rows sum to 1, or to 0 where there is no target.
        weights: (n,) for each batch: the share of the teachers' probability that could be translated, from 0 to 1.
        temperature: T of the softmax that made them.
        strength: factor of their term in the loss.
    """

    probabilities: Sequence[Tensor]
    weights: Sequence[Tensor]
    temperature: float = 1.0
    strength: float = 1.0


def ensemble_predictions(
    teacher: Client,
    teachers: Iterable[Mapping[str, Tensor]],
    batches: Sequence[LocalBatch],
    *,
    slot: str,
    temperature: float,
    mean_of: EnsembleMean,
) -> TeacherPredictions:
    """Return the mean of the predictions of several teachers of one base model, computed one after the other.

    Args:
        teacher: the model into whose adapter each teacher's weights are loaded; it keeps the last one's.
        teachers: the slot's tensors of each teacher, by name.
        batches: public samples as this base model reads them.
        slot: into which the tensors are loaded; the only active one.
        temperature: T.
        mean_of: whether probabilities or logits are averaged.
    """
    sums: list[Tensor | None] = [None] * len(batches)
    count = 0
    for count, tensors in enumerate(teachers, start=1):  # noqa: B007 - counts
        teacher.adapter.load_slot(slot, tensors)
        for index, batch in enumerate(batches):
            logits = teacher.predict(batch, mix=slot).logits.float() / temperature
            prediction = logits if mean_of == "logits" else logits.softmax(-1)
            before = sums[index]
            sums[index] = prediction if before is None else before + prediction
    means = [total / count for total in sums if total is not None]
    probabilities = [mean.softmax(-1) for mean in means] if mean_of == "logits" else means
    return TeacherPredictions(teacher.base, batches, probabilities, count)


def distillation_targets(
    predictions: Sequence[TeacherPredictions],
    student: BaseModel,
    batches: Sequence[LocalBatch],
    *,
    temperature: float = 1.0,
    strength: float = 1.0,
    teachers: int | None = None,
) -> DistillationTargets:
    """Return predictions as a student's targets: translated, and averaged with the numbers of teachers as weights.

    Args:
        predictions: of the same public samples.
        student: the base model that learns.
        batches: those samples as the student reads them.
        temperature: T of the softmax that made the predictions.
        strength: factor of these targets' term in the loss.
        teachers: the number of teachers at which a token has weight 1; default: all. Fewer where predictions cover
            some tokens only.
    """
    translated = [_translated(each, student, batches) for each in predictions]
    sums = [torch.stack(of_batch).sum(0) for of_batch in zip(*translated, strict=True)]
    mass = [total.sum(-1) for total in sums]
    teachers = teachers or sum(each.teachers for each in predictions)
    return DistillationTargets(
        [total / each.clamp(min=torch.finfo(each.dtype).tiny)[:, None] for total, each in zip(sums, mass, strict=True)],
        [(each / teachers).clamp(max=1) for each in mass],
        temperature,
        strength,
    )


def _translated(predictions: TeacherPredictions, student: BaseModel, batches: Sequence[LocalBatch]) -> list[Tensor]:
    translate = TokenAligner(predictions.base, student)
    each = zip(predictions.probabilities, predictions.batches, batches, strict=True)
    return [predictions.teachers * translate(probabilities, source, target) for probabilities, source, target in each]


def divergence(logits: Tensor, probabilities: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Return T² KL(probabilities || softmax(logits / T)), the weighted sum over tokens divided by n (a scalar; nats).

    Args:
        logits: (n, V) of the student.
        probabilities: (n, V) targets.
        weights: (n,) from 0 to 1.
        temperature: T.
    """
    predicted = F.log_softmax(logits.float() / temperature, dim=-1)
    each = (torch.xlogy(probabilities, probabilities) - probabilities * predicted).sum(-1)
    return temperature**2 * (weights * each).mean()


def distil(
    student: Client,
    batches: Sequence[LocalBatch],
    targets: Sequence[DistillationTargets],
    *,
    slot: str,
    label: float = 0.0,
    decay: bool = False,
    snapshots_after: Collection[int] = (),
) -> list[dict[str, Tensor]]:
    """Train one slot for one pass over public batches.

    Args:
        student: the model that is trained.
        batches: public samples as it reads them.
        targets: for these batches; the loss is the sum of their terms.
        slot: what trains; the only active one.
        label: factor of the cross-entropy with the true answers, which is added.
        decay: whether the learning rates decay linearly within the pass, to zero after the last step.
        snapshots_after: numbers of steps after which the slot is copied.

    Returns:
        The copies, in the order of the steps.
    """
    snapshots = []
    for index, batch in enumerate(batches):

        def objective(index: int = index, batch: LocalBatch = batch) -> Tensor:
            answers = student.answers(batch, mix=slot)
            terms = [
                each.strength
                * divergence(answers.logits, each.probabilities[index], each.weights[index], each.temperature)
                for each in targets
            ]
            return torch.stack([*terms, *([label * cross_entropy(answers)] if label else [])]).sum()

        if decay:
            student.optimiser.scale_rates(1 - index / len(batches))
        student.descend(objective, batch, slots=(slot,))
        if index + 1 in snapshots_after:
            snapshots.append(student.snapshot(slot))
    student.optimiser.scale_rates(1.0)
    return snapshots
