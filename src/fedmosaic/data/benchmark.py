"""Benchmarks: named tasks over one source of images."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import Sample, Task
from fedmosaic.errors import SettingsError
from fedmosaic.registry import DATASETS
from fedmosaic.seeding import rng


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of a dataset, from a scenario or a command.

    Attributes:
        home: the folder for everything that fedmosaic makes itself.
        folder: the user's data folder, if one is given.
        skip_bad: leave out records that cannot be used, instead of refusing them.
        open_tasks: tasks whose answers are open even where the question lists options.
        public: the task whose train samples server and clients may all see; empty for none.
        columns: what the data call question, answer, image, options, ..., where they have names of their own.
    """

    home: Path
    folder: Path | None = None
    skip_bad: bool = False
    open_tasks: Collection[str] = ()
    public: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


class Dataset(Protocol):
    """A kind of data that scenarios name by ``benchmark``; registered as a class, see :mod:`fedmosaic.registry`.

    Attributes:
        name: as in scenarios.
    """

    name: ClassVar[str]

    @classmethod
    def open(cls, options: DataOptions) -> Benchmark:
        """Open the data and return the benchmark.

        Args:
            options: from the scenario or command.

        Raises:
            SettingsError: an option is missing.
            DataError: the data cannot be built or read.
        """
        ...


class Benchmark(Protocol):
    """A set of tasks and the images that their samples name."""

    @property
    def name(self) -> str:
        """The name in scenarios and settings."""
        ...

    @property
    def images(self) -> ImageSource:
        """The source of the images of all samples."""
        ...

    def task_names(self) -> list[str]:
        """Return the names of the tasks that clients train on."""
        ...

    def unseen_names(self) -> list[str]:
        """Return the names of the tasks that no client trains on."""
        ...

    def task(self, name: str) -> Task:
        """Return one task, seen or unseen.

        Args:
            name: the task's name.

        Raises:
            SettingsError: there is no such task; names similar ones.
        """
        ...

    def public(self, count: int, seed: int) -> Sequence[Sample]:
        """Return public samples, which server and clients may all see; the same for the same arguments.

        Args:
            count: number of samples.
            seed: of the draw.

        Raises:
            SettingsError: the benchmark has none, or too few.
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
    columns: Mapping[str, str] | None = None,
) -> Benchmark:
    """Load a benchmark by name and return it.

    Args:
        name: a dataset's name: ``mosaic40`` (built below ``home`` on first use), ``published`` (read from ``folder``),
            ...
        home: the folder for everything that fedmosaic makes itself.
        folder: the user's data folder.
        skip_bad: whether to leave out bad records.
        open_tasks: tasks whose answers are open.
        public: the public task.
        columns: the data's own names of columns.

    Raises:
        SettingsError: the name is unknown, or the dataset needs a folder and none is given.
        DataError: the data cannot be built or read.
    """
    dataset: type[Dataset] = DATASETS.load(name)
    options = DataOptions(
        home=home, folder=folder, skip_bad=skip_bad, open_tasks=open_tasks, public=public, columns=columns or {}
    )
    return dataset.open(options)


def drawn_public(task: Task, count: int, seed: int) -> list[Sample]:
    """Return train samples of a public task, drawn without repetition.

    Args:
        task: the task.
        count: how many.
        seed: of the draw.

    Raises:
        SettingsError: it has too few samples.
    """
    if len(task.train) < count:
        raise SettingsError(f"{task.name} has {len(task.train)} public samples; this method asks for {count}")
    return [task.train[int(index)] for index in rng(seed, "public").permutation(len(task.train))[:count]]


def unknown(what: str, name: str, known: Iterable[str]) -> SettingsError:
    """Return the error for a name that does not exist, listing similar ones.

    Args:
        what: what was asked for, e.g. ``task``.
        name: the name that was given.
        known: all names that exist.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:5]
    return SettingsError(f"unknown {what} {name!r}; did you mean {', '.join(near)}? ({len(names)} are known)")
