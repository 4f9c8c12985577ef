"""Metrics of open answers: how near an answer is to the right one. Each is a file here."""

from __future__ import annotations

from typing import ClassVar, Protocol


class OpenMetric(Protocol):
    """How open answers are scored.

    Attributes:
        name: as in ``evaluation.open_metric``.
        title: for reports; goes on after "open answers by".
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def score(self, answer: str, gold: str) -> float:
        """Return how near an answer is to the right one.

        Args:
            answer: the model's.
            gold: the right one.

        Returns:
            A number in [0, 1].
        """
        ...
