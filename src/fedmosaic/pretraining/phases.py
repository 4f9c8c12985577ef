"""The curriculum of pretraining: single images, matching, comparing, everything."""

from __future__ import annotations

import random
from dataclasses import dataclass

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40.build import PublicBank
from fedmosaic.data.mosaic40.drills import drills
from fedmosaic.data.mosaic40.public import public_mixture
from fedmosaic.seeding import derive


@dataclass(frozen=True)
class Phase:
    """A part of the curriculum.

    Attributes:
        until: share of the training time at which it ends, 0 to 1.
        drills: share of comparison drills among the dialogues.
        matching: whether the drills are only those on the same thing.
        several: share of the mixture's dialogues about several images that are kept.
    """

    until: float
    drills: float = 0.0
    matching: bool = False
    several: float = 1.0


PHASES = (
    Phase(0.30, several=0.25),  # single images
    Phase(0.42, drills=1.0, matching=True),  # matching
    Phase(0.66, drills=1.0),  # comparing
    Phase(1.00, drills=0.5),  # everything
)


class PhaseSchedule:
    """Endless batches of dialogues of about equal length, phase after phase.

    Args:
        bank: the public pictures.
        size: dialogues in a batch.
        start: share of the curriculum that is left out at the start.
        seed: of the dialogues.
    """

    def __init__(self, bank: PublicBank, *, size: int, start: float, seed: int) -> None:
        self._mixture = public_mixture(bank, derive(seed, "pretrain"))
        self._drills, self._matches = (
            drills(bank, derive(seed, "pretrain-drills"), matching=only) for only in (False, True)
        )
        self._size, self._start = size, start
        self._random = random.Random(derive(seed, "curriculum"))
        self._ready: list[list[Dialogue]] = []

    def next(self, progress: float) -> list[Dialogue]:
        """Return a batch of dialogues.

        Args:
            progress: share of the training time that has passed, 0 to 1.
        """
        if not self._ready:
            size = self._size
            pool = [self._dialogue(progress) for _ in range(8 * size)]
            pool.sort(key=_length)
            self._ready = [pool[start : start + size] for start in range(0, len(pool), size)]
            self._random.shuffle(self._ready)
        return self._ready.pop()

    def _dialogue(self, progress: float) -> Dialogue:
        place = self._start + (1 - self._start) * progress
        phase = next(phase for phase in PHASES if place < phase.until or phase is PHASES[-1])
        if self._random.random() < phase.drills:
            return next(self._matches if phase.matching else self._drills)
        while True:
            dialogue = next(self._mixture)
            if len(dialogue.images) <= 1 or self._random.random() < phase.several:
                return dialogue


def _length(dialogue: Dialogue) -> tuple[int, int]:
    return len(dialogue.images), sum(len(text) + len(answer) for text, answer in dialogue.turns)
