"""Learning from what other models say about public samples (Hinton et al., 2015, arXiv 1503.02531).

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

Pooled = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class Lesson:
    """What teachers of one base model say about the answers of public samples.

    Attributes:
        base: the teachers' base model.
        batches: the samples as it reads them.
        probabilities: (n, V) for each batch.
        votes: the number of teachers that this is the mean of.
    """

    base: BaseModel
    batches: Sequence[LocalBatch]
    probabilities: Sequence[Tensor]
    votes: int = 1


@dataclass(frozen=True)
class Targets:
    """What a student shall predict, in its own tokens.

    Attributes:
        probabilities: (n, V) for each batch; rows sum to 1, or to 0 where there is no target.
        weights: (n,) for each batch: how much of what the teachers say could be translated, from 0 to 1.
        temperature: T, at which they were softened.
        strength: factor of their part of the loss.
    """

    probabilities: Sequence[Tensor]
    weights: Sequence[Tensor]
    temperature: float = 1.0
    strength: float = 1.0


def lesson(
    teacher: Client,
    voters: Iterable[Mapping[str, Tensor]],
    batches: Sequence[LocalBatch],
    *,
    slot: str,
    temperature: float,
    pooled: Pooled,
) -> Lesson:
    """Let teachers of one base model predict the answers, one after the other, and return their mean.

    Args:
        teacher: whose adapter they take turns in; it keeps the last one's.
        voters: the tensors of each teacher.
        batches: public samples as this base model reads them.
        slot: where the tensors go, and which alone predicts.
        temperature: T.
        pooled: what the mean is of.
    """
    sums: list[Tensor | None] = [None] * len(batches)
    votes = 0
    for votes, tensors in enumerate(voters, start=1):  # noqa: B007 - counts
        teacher.adapter.load_slot(slot, tensors)
        for index, batch in enumerate(batches):
            logits = teacher.predict(batch, mix=slot).logits.float() / temperature
            said = logits if pooled == "logits" else logits.softmax(-1)
            before = sums[index]
            sums[index] = said if before is None else before + said
    means = [total / votes for total in sums if total is not None]
    probabilities = [mean.softmax(-1) for mean in means] if pooled == "logits" else means
    return Lesson(teacher.base, batches, probabilities, votes)


def targets(
    lessons: Sequence[Lesson],
    student: BaseModel,
    batches: Sequence[LocalBatch],
    *,
    temperature: float = 1.0,
    strength: float = 1.0,
    votes: int | None = None,
) -> Targets:
    """Translate lessons for a student and return their mean, each with its number of votes.

    Args:
        lessons: about the same public samples.
        student: who learns them.
        batches: those samples as the student reads them.
        temperature: at which the lessons were softened.
        strength: factor of these targets' part of the loss.
        votes: how many a token needs for the full weight; default: all. Fewer where lessons are about some tokens only.
    """
    translated = [_translated(lesson, student, batches) for lesson in lessons]
    sums = [torch.stack(said).sum(0) for said in zip(*translated, strict=True)]
    mass = [total.sum(-1) for total in sums]
    votes = votes or sum(lesson.votes for lesson in lessons)
    return Targets(
        [total / each.clamp(min=torch.finfo(each.dtype).tiny)[:, None] for total, each in zip(sums, mass, strict=True)],
        [(each / votes).clamp(max=1) for each in mass],
        temperature,
        strength,
    )


def _translated(lesson: Lesson, student: BaseModel, batches: Sequence[LocalBatch]) -> list[Tensor]:
    translate = TokenAligner(lesson.base, student)
    each = zip(lesson.probabilities, lesson.batches, batches, strict=True)
    return [lesson.votes * translate(said, source, target) for said, source, target in each]


def divergence(logits: Tensor, probabilities: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Return T² KL(probabilities || softmax(logits / T)), the weighted sum over tokens by their number (nats)."""
    predicted = F.log_softmax(logits.float() / temperature, dim=-1)
    each = (torch.xlogy(probabilities, probabilities) - probabilities * predicted).sum(-1)
    return temperature**2 * (weights * each).mean()


def distil(
    student: Client,
    batches: Sequence[LocalBatch],
    lessons: Sequence[Targets],
    *,
    slot: str,
    label: float = 0.0,
    decay: bool = False,
    snapshots_after: Collection[int] = (),
) -> list[dict[str, Tensor]]:
    """Train one slot for one pass over public batches.

    Args:
        student: who learns.
        batches: public samples as it reads them.
        lessons: the targets for these batches; the loss is the sum of their parts.
        slot: what trains, and alone predicts.
        label: factor of the cross-entropy with the true answers, which is added.
        decay: whether the learning rates fall linearly within the pass, towards zero after the last step.
        snapshots_after: numbers of steps after which the slot is copied.

    Returns:
        the copies, in the order of the steps.
    """
    snapshots = []
    for index, batch in enumerate(batches):

        def objective(index: int = index, batch: LocalBatch = batch) -> Tensor:
            answers = student.answers(batch, mix=slot)
            parts = [
                each.strength
                * divergence(answers.logits, each.probabilities[index], each.weights[index], each.temperature)
                for each in lessons
            ]
            return torch.stack([*parts, *([label * cross_entropy(answers)] if label else [])]).sum()

        if decay:
            student.optimiser.scale_rates(1 - index / len(batches))
        student.descend(objective, batch, slots=(slot,))
        if index + 1 in snapshots_after:
            snapshots.append(student.snapshot(slot))
    student.optimiser.scale_rates(1.0)
    return snapshots
