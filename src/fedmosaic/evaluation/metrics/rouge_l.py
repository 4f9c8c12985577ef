"""ROUGE-L: the longest common subsequence of two texts' words."""

from __future__ import annotations

from functools import cache
from typing import Any

from fedmosaic.evaluation.word_tokenizer import rouge_words


def rouge_l(answer: str, gold: str) -> float:
    """Return the ROUGE-L F-measure, of the longest common subsequence of words, without stemming.

    It is computed by the ``rouge_score`` library.

    Args:
        answer: the model's.
        gold: the right one.

    Returns:
        From 0 to 1.
    """
    if rouge_words(answer) == rouge_words(gold):
        return 1.0
    return float(_rouge().score(gold, answer)["rougeL"].fmeasure)


class RougeL:
    """The metric ``rouge-l``."""

    name = "rouge-l"
    title = "the longest common subsequence of words, ROUGE-L"

    def score(self, answer: str, gold: str) -> float:
        """See :meth:`~fedmosaic.evaluation.metrics.OpenMetric.score`."""
        return rouge_l(answer, gold)


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 - takes a second to import, rarely needed

    return RougeScorer(["rougeL"], tokenizer=_Tokenizer())


class _Tokenizer:
    """What the library takes in place of its own tokenizer, which knows nothing but the letters a to z."""

    def tokenize(self, text: str) -> list[str]:
        return rouge_words(text)
