"""``mosaic40``: drawn from installed packages on first use, without a network."""

from __future__ import annotations

from fedmosaic.data.benchmark import Benchmark, DataOptions
from fedmosaic.data.mosaic40.build import open_mosaic40


class Mosaic40Dataset:
    """The built-in benchmark; it takes no options."""

    name = "mosaic40"

    @classmethod
    def open(cls, options: DataOptions) -> Benchmark:
        """Open the benchmark below the home folder and return it. See :meth:`Dataset.open`."""
        return open_mosaic40(options.home)
