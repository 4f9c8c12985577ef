"""``in-memory``: tasks that Python code gives as objects."""

from __future__ import annotations

from fedmosaic.data.benchmark import Benchmark, DataOptions
from fedmosaic.errors import SettingsError


class InMemoryDataset:
    """A name only: the tasks come with the run (:class:`fedmosaic.data.in_memory.InMemoryBenchmark`)."""

    name = "in-memory"

    @classmethod
    def open(cls, options: DataOptions) -> Benchmark:
        """Return nothing: what was given as objects is in no folder.

        Args:
            options: what the scenario says about its data.

        Raises:
            SettingsError: always.
        """
        raise SettingsError(
            "the tasks of benchmark 'in-memory' were given as objects, which no folder holds; give them again, from "
            "Python: tasks=[...], images={...}"
        )
