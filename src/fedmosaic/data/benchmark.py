"""Benchmarks: named tasks over one source of images."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import Sample, Task
from fedmosaic.errors import SettingsError

BENCHMARKS = ("mosaic40", "published")


class Benchmark(Protocol):
    """A set of tasks. ``images`` gives the images that the samples name."""

    @property
    def name(self) -> str:
        """What scenarios and settings call it."""
        ...

    @property
    def images(self) -> ImageSource:
        """Gives the images of all samples by their keys."""
        ...

    def task_names(self) -> list[str]:
        """Return the names of the tasks that clients train on."""
        ...

    def unseen_names(self) -> list[str]:
        """Return the names of the tasks that no client trains on."""
        ...

    def task(self, name: str) -> Task:
        """Return one task, seen or unseen.

        Raises:
            SettingsError: there is no such task; names near ones.
        """
        ...

    def public(self, count: int, seed: int) -> Sequence[Sample]:
        """Return public samples, which server and clients may all see; the same for the same arguments.

        Raises:
            SettingsError: the benchmark has none.
        """
        ...


def load_benchmark(
    name: str,
    *,
    home: Path,
    folder: Path | None = None,
    skip_bad: bool = False,
    open_tasks: Collection[str] = (),
    public: str = "",
) -> Benchmark:
    """Load a benchmark by name.

    Args:
        name: ``mosaic40`` (built below ``home`` on first use), or ``published`` (read from ``folder``).
        home: the folder for everything that fedmosaic makes itself.
        folder: the data folder of ``published``: it holds ``dataset/NAME/{train,test}/dataset-ID.json``.
        skip_bad: leave out records of ``published`` that cannot be used, instead of refusing them.
        open_tasks: tasks of ``published`` whose answers are open even where the question lists options.
        public: the task of ``published`` whose train samples are public; ``mosaic40`` brings its own.

    Raises:
        SettingsError: the name is unknown, or ``published`` is asked for without a folder.
        DataError: the data cannot be built or read.
    """
    # Imported here, because each needs this module's words and one of them should not load the other's libraries.
    if name == "mosaic40":
        from fedmosaic.data.mosaic40.build import open_mosaic40  # noqa: PLC0415

        return open_mosaic40(home)
    if name == "published":
        from fedmosaic.data.published import HOW_TO_GET, PublishedBenchmark  # noqa: PLC0415

        if folder is None:
            raise SettingsError(f"benchmark 'published' needs a data folder; {HOW_TO_GET}")
        benchmark = PublishedBenchmark(folder, skip_bad=skip_bad, open_tasks=open_tasks, public=public)
        benchmark.images.remember(home)
        return benchmark
    raise unknown("benchmark", name, BENCHMARKS)


def unknown(what: str, name: str, known: Iterable[str]) -> SettingsError:
    """Return the error for a name that does not exist, listing near ones.

    Args:
        what: what was asked for, e.g. ``task``.
        name: the name that was given.
        known: all names that exist.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:5]
    return SettingsError(f"unknown {what} {name!r}; did you mean {', '.join(near)}? ({len(names)} are known)")
