"""Token F1: the overlap of two texts' words (of every script, as :mod:`fedmosaic.evaluation.words` reads them)."""

from __future__ import annotations

from collections import Counter

from fedmosaic.evaluation.words import words


def token_f1(answer: str, gold: str) -> float:
    """F1 of the words of two texts, which count as often as they occur; case and punctuation between words do not."""
    given, wanted = Counter(words(answer)), Counter(words(gold))
    if given == wanted:
        return 1.0  # also two texts without any
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


class TokenF1:
    """The metric ``f1``."""

    name = "f1"
    title = "the word overlap, F1"

    def score(self, answer: str, gold: str) -> float:
        """See :func:`token_f1`."""
        return token_f1(answer, gold)
