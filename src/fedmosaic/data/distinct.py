"""Samples of a made task: no two alike, no answer much more frequent than the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass

from fedmosaic.data.sample import Sample
from fedmosaic.errors import DataError


@dataclass(frozen=True)
class Drawn:
    """A sample that may be taken.

    Attributes:
        sample: itself.
        asked: what no earlier sample may have asked.
        tells: what no later one may ask, if this one is taken.
    """

    sample: Sample
    asked: Hashable
    tells: Collection[Hashable]


@dataclass(frozen=True)
class Wanted:
    """How many samples of a part of a task there are to be.

    Attributes:
        name: of the task, for messages.
        part: of the task.
        number: of samples.
        least: fewer are no task.
        repeats: so many repeated questions in a row end the search for new ones.
        options_may_differ: whether, then, samples may differ in their options alone.
    """

    name: str
    part: str
    number: int
    least: int
    repeats: int
    options_may_differ: bool


def distinct(wanted: Wanted, draw: Callable[[str, bool], Drawn]) -> tuple[Sample, ...]:
    """Return distinct samples with balanced answers: each option is right in at most 1.1 times its share.

    Args:
        wanted: how many.
        draw: draws one, given its id and whether it may differ in its options alone.

    Raises:
        DataError: there are too few.
    """
    found: list[Sample] = []
    known: set[Hashable] = set()
    answers: Counter[str] = Counter()
    repeats, options_differ = 0, False
    while len(found) < wanted.number:
        drawn = draw(f"{wanted.part}-{len(found):03d}", options_differ)
        sample = drawn.sample
        most = math.ceil(1.1 * wanted.number / len(sample.options)) if sample.options else wanted.number
        if drawn.asked not in known and answers[sample.answer] < most:
            found.append(sample)
            answers[sample.answer] += 1
            known.update(drawn.tells)
            repeats = 0
            continue
        repeats += 1
        if repeats == wanted.repeats:
            if options_differ or not wanted.options_may_differ:
                break
            repeats, options_differ = 0, True
    if len(found) < wanted.least:
        raise DataError(f"task {wanted.name!r}: only {len(found)} different {wanted.part} samples could be made")
    return tuple(found)
