"""``published``: a data folder in the published layout."""

from __future__ import annotations

from fedmosaic.data.benchmark import Benchmark, DataOptions
from fedmosaic.data.published import HOW_TO_GET, PublishedBenchmark
from fedmosaic.errors import SettingsError


class PublishedDataset:
    """The tasks in ``dataset/NAME/{train,test}/dataset-ID.json`` below a folder."""

    name = "published"

    @classmethod
    def open(cls, options: DataOptions) -> Benchmark:
        """Open the data folder and return its benchmark.

        Args:
            options: ``folder`` is required.

        Raises:
            SettingsError: no folder is given.
            DataError: it holds no task.
        """
        if options.folder is None:
            raise SettingsError(f"benchmark 'published' needs a data folder; {HOW_TO_GET}")
        benchmark = PublishedBenchmark(
            options.folder, skip_bad=options.skip_bad, open_tasks=options.open_tasks, public=options.public
        )
        benchmark.images.remember(options.home)
        return benchmark
