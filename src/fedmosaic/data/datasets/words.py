"""``words``: tasks without images, made from lists of words and from arithmetic."""

from __future__ import annotations

from fedmosaic.data.benchmark import Benchmark, DataOptions
from fedmosaic.data.words.benchmark import WordsBenchmark


class WordsDataset:
    """The built-in text benchmark; it takes no options."""

    name = "words"

    @classmethod
    def open(cls, options: DataOptions) -> Benchmark:
        """Return the benchmark. See :meth:`Dataset.open`."""
        return WordsBenchmark()
