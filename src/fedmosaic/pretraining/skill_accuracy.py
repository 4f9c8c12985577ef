"""Accuracy on public questions, skill by skill: the evaluation of a pretraining."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from fedmosaic.data.sample import IMAGE_MARK, Sample
from fedmosaic.evaluation import score
from fedmosaic.models.base import BaseModel

# What a question asks about, by the first phrase that occurs in it.
_PHRASES = (
    ("which other image", "match-to-first"),
    ("show the same thing", "same-thing"),
    ("which image shows", "which-image"),
    ("find a", "which-image"),
    ("where do you see", "which-image"),
    ("main color", "colour"),
    ("what kind of thing", "category"),
    ("how many things", "count"),
    ("things", "count-check"),
    ("how was the second image changed", "edit-type"),
    ("is the second image", "edit-check"),
    ("second image changed", "edit-check"),
    ("which bar is the highest", "highest-bar"),
    ("bar higher than", "bar-compare"),
    ("bar ?", "bar-present"),
    ("largest", "largest-slice"),
    ("digit", "digit"),
    ("where is", "place-in-image"),
    ("what is on the", "place-in-image"),
    ("is there", "present"),
    ("is the", "place-check"),
)
_MARGIN = 5  # samples; skills with fewer are not reported


def skill_of(sample: Sample) -> str:
    """Return the name of the skill that a public question asks for (``other`` if no phrase fits).

    Args:
        sample: a public question.
    """
    question = sample.prompt.rsplit(IMAGE_MARK, 1)[-1]
    if question.split(" options")[0].lstrip().startswith(("is this", "is the first", "is the third", "is the fourth")):
        return "is-it"
    return next((skill for phrase, skill in _PHRASES if phrase in question), "other")


@torch.no_grad()
def likeliest_options(model: BaseModel, samples: Sequence[Sample], *, batch: int = 64) -> list[str]:
    """Return the likeliest option of each sample; of options with the same tokens, the first.

    Args:
        model: any base model.
        samples: with options.
        batch: samples answered together.
    """
    order = sorted(range(len(samples)), key=lambda index: (len(samples[index].images), len(samples[index].prompt)))
    chosen = [""] * len(samples)
    for start in range(0, len(order), batch):
        members = order[start : start + batch]
        found = score.likeliest_options(model, [samples[index] for index in members])
        for index, (first, *_) in zip(members, found, strict=True):
            chosen[index] = first
    return chosen


def skill_accuracy(model: BaseModel, samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Return for each skill the ``accuracy``, the ``chance`` of a blind guess and the number of ``samples``.

    Args:
        model: the pretrained model.
        samples: public questions with options.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    chance: dict[str, list[float]] = defaultdict(list)
    for sample, answer in zip(samples, likeliest_options(model, samples), strict=True):
        right[skill_of(sample)].append(answer == sample.answer)
        chance[skill_of(sample)].append(1 / len(sample.options or (1,)))
    return {
        skill: {
            "accuracy": round(sum(hits) / len(hits), 3),
            "chance": round(sum(chance[skill]) / len(hits), 3),
            "samples": len(hits),
        }
        for skill, hits in sorted(right.items())
        if len(hits) >= _MARGIN
    }
