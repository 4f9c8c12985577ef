"""Token F1: the overlap of two texts' words (of every script, see :mod:`fedmosaic.evaluation.word_tokenizer`)."""

from __future__ import annotations

from collections import Counter

from fedmosaic.evaluation.word_tokenizer import split_words


def token_f1(answer: str, gold: str) -> float:
    """Return the F1 of the words of two texts, each counted as often as it occurs.

    Case and punctuation between words do not count.

    Args:
        answer: the model's.
        gold: the right one.

    Returns:
        From 0 to 1.
    """
    given, wanted = Counter(split_words(answer)), Counter(split_words(gold))
    if given == wanted:
        return 1.0  # also two texts without any
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


class TokenF1:
    """The metric ``f1``."""

    name = "f1"
    title = "the word overlap, F1"

    def score(self, answer: str, gold: str) -> float:
        """See :meth:`~fedmosaic.evaluation.metrics.OpenMetric.score`."""
        return token_f1(answer, gold)
