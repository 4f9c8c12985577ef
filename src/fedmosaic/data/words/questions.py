"""Questions in plain English: how they are worded, and how wrong answers are drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from fedmosaic.data.sample import Sample

OPTIONS = "\nOptions: "
ANSWER = "\nAnswer:"


@dataclass(frozen=True, slots=True)
class Question:
    """A question without images.

    Attributes:
        text: what is asked.
        answer: the gold answer.
        options: the answers to choose from, in the order in which they are listed; None for an open question.
    """

    text: str
    answer: str
    options: tuple[str, ...] | None = None

    @property
    def prompt(self) -> str:
        """The whole text that a model is given."""
        return f"{self.text}{OPTIONS + ', '.join(self.options) if self.options else ''}{ANSWER}"

    def sample(self, sample_id: str) -> Sample:
        """Return the sample.

        Args:
            sample_id: unique in its task.
        """
        return Sample(sample_id, (), self.prompt, self.answer, self.options)


Ask = Callable[[str, random.Random], Question]
"""Draws a question whose content is a part's."""


def choice(
    text: str, answer: str, others: Collection[str], rng: random.Random, *, number: int = 4, never: Collection[str] = ()
) -> Question:
    """Return a question whose options are the answer and random others, in random order.

    Args:
        text: the question.
        answer: the gold answer.
        others: what may be offered beside it.
        rng: draws.
        number: of options; fewer where there are too few others.
        never: what might be right, too, and is not offered.
    """
    wrong = sorted({other for other in others if other != answer and other not in never})
    options = [answer, *rng.sample(wrong, min(number - 1, len(wrong)))]
    rng.shuffle(options)
    return Question(text, answer, tuple(options))


def ordered(text: str, answer: str, options: Sequence[str], rng: random.Random) -> Question:
    """Return a question with these options in random order.

    Args:
        text: the question.
        answer: one of the options.
        options: all of them.
        rng: draws their order.
    """
    return Question(text, answer, tuple(rng.sample(list(options), len(options))))
