"""``files``: a file or folder in any of the usual formats (docs/data.md)."""

from __future__ import annotations

from fedmosaic.data.benchmark import Benchmark, DataOptions
from fedmosaic.data.files import FilesBenchmark
from fedmosaic.errors import SettingsError


class FilesDataset:
    """The tasks in a file, or below a folder."""

    name = "files"

    @classmethod
    def open(cls, options: DataOptions) -> Benchmark:
        """Open the file or folder and return its benchmark.

        Args:
            options: ``folder`` is required.

        Raises:
            SettingsError: no path is given.
            DataError: it holds no task.
        """
        if options.folder is None:
            raise SettingsError("benchmark 'files' needs a file or folder; name it by 'data' in the scenario")
        benchmark = FilesBenchmark(
            options.folder,
            skip_bad=options.skip_bad,
            open_tasks=options.open_tasks,
            public=options.public,
            columns=options.columns,
        )
        benchmark.images.remember(options.home)
        return benchmark
