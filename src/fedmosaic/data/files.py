"""Tasks in files and folders of the usual formats, recognised by their content: no conversion (docs/data.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedmosaic.data.benchmark import drawn_public, unknown
from fedmosaic.data.discover import TaskFiles, find_tasks
from fedmosaic.data.file_images import FileImages
from fedmosaic.data.readers.base import reader_of
from fedmosaic.data.reading import Recogniser, samples_of
from fedmosaic.data.sample import Sample, Task
from fedmosaic.data.sources import Source, open_option_notes, overlap_notes, split_keys
from fedmosaic.data.splitting import split_disjoint
from fedmosaic.errors import DataError, SettingsError

TEST_SHARES = (0.2, 0.35, 0.5)  # the first at which a group of samples that share images can be cut off
VALIDATION_SHARE = 0.1


@dataclass
class Understood:
    """What was made of a task's files.

    Attributes:
        readers: names of the readers.
        formats: names of the formats.
        records: how many there are in each split's files.
        unused: keys whose content is not used -> in how many records.
        groups: values of the task column -> number of records.
    """

    readers: set[str] = field(default_factory=set)
    formats: set[str] = field(default_factory=set)
    records: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record cannot be used.

    Attributes:
        path: its file.
        place: the record's, in the file.
        reason: what is wrong.
    """

    path: Path
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, {self.place}: {self.reason}"


class FilesBenchmark:
    """Tasks in a file or below a folder. A task is read and checked when it is asked for.

    Args:
        path: the file or folder. Images stay below the folder, or the file's folder.
        skip_bad: leave out records that cannot be used instead of stopping; images are then decoded, too.
        open_tasks: tasks whose answers are open even where there are options.
        public: name of a task whose train samples server and clients may all see; empty for none.
        columns: usual name of a column -> what it is called here; ``task`` names the column whose values divide the
            records of a task into tasks of their own, called TASK/VALUE.

    Attributes:
        skipped: what was left out, one message per record.
        faults: the same, in parts.
        notes: what does not stop a run but makes its scores mean less.
        understood: by the name of a task's files.

    Raises:
        DataError: there is no task.
        SettingsError: a column is none of those that have a meaning.
    """

    name = "files"

    def __init__(
        self,
        path: Path,
        *,
        skip_bad: bool = False,
        open_tasks: Collection[str] = (),
        public: str = "",
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self.root = path if path.is_dir() else path.parent
        self.skip_bad = skip_bad
        self.open_tasks = frozenset(open_tasks)
        self._public = public
        self._recogniser = Recogniser(columns or {})
        self.skipped: list[str] = []
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self.images = FileImages(self.root)
        self.understood: dict[str, Understood] = {}
        self._files = find_tasks(path)
        self._read: dict[str, dict[str, Task]] = {}

    def task_names(self) -> list[str]:
        """Return the names of all tasks but the public one; files are read only where a column divides them."""
        names = [name for file in self._files for name in (self.tasks_of(file) if self._recogniser.divides else [file])]
        return [name for name in names if name != self._public]

    def unseen_names(self) -> list[str]:
        """Return nothing: clients may train on all tasks."""
        return []

    def task(self, name: str) -> Task:
        """Return one task. See :meth:`Benchmark.task`.

        Its test and validation samples are taken from its train files where there are none of their own, so that
        splits share no image, record or text.

        Raises:
            DataError: a file cannot be read, holds too few records, or (unless they are skipped) bad ones.
        """
        for file in self._files:
            if name == file or (self._recogniser.divides and name.startswith(f"{file}/")):
                tasks = self.tasks_of(file)
                if name in tasks:
                    return tasks[name]
        raise unknown("task", name, self.task_names())

    def public(self, count: int, seed: int) -> Sequence[Sample]:
        """Return train samples of the task that was named public. See :meth:`Benchmark.public`."""
        if not self._public:
            raise SettingsError(
                f"no task of the data in {self.root} is public, but this method needs public samples; add one and name "
                'it in the scenario: public = "NAME"'
            )
        return drawn_public(self.task(self._public), count, seed)

    def file_names(self) -> list[str]:
        """Return the names of the tasks' files, of which each is one task or (by a column) several."""
        return list(self._files)

    def tasks_of(self, file: str) -> dict[str, Task]:
        """Return the tasks in the files of one name, which are read now.

        Args:
            file: the name.

        Raises:
            DataError: as :meth:`task`.
        """
        if file not in self._read:
            files, seen = self._files[file], self.understood.setdefault(file, Understood())
            read = {split: list(self._sources(file, split, files, seen)) for split in files.splits}
            groups = dict.fromkeys(source.group for source in read["train"])
            tasks: dict[str, Task] = {}
            for group in groups:
                name = f"{file}/{group}" if group else file
                if name != file and name in self._files:
                    raise DataError(
                        f"{name!r} is a value of the task column in {file!r} and a file; rename one of them"
                    )
                own = {split: [s for s in sources if s.group == group] for split, sources in read.items()}
                tasks[name] = self._task(name, own)
            if not groups:
                raise DataError(f"{files.splits['train'][0]}: no usable record; expected at least two")
            self._read[file] = tasks
            self.notes += [*files.notes, *_unused_notes(file, seen), *_lost_notes(file, read, groups)]
        return self._read[file]

    def _task(self, name: str, read: Mapping[str, list[Source]]) -> Task:
        train, test = read["train"], read.get("test") or []
        if test:
            self.notes += overlap_notes(name, train, test)
        else:
            cuts = (_divided(read["train"], share) for share in TEST_SHARES)
            train, test = next((cut for cut in cuts if cut[1]), (train, []))
        if not test or not train:
            raise DataError(
                f"task {name!r} has {len(read['train'])} sample(s) from which no test samples can be taken without the "
                "same images or texts in both; add records, or a test file beside it"
            )
        self.notes += open_option_notes(name, test)
        validation = read.get("validation") or []
        if not validation:
            train, validation = _divided(train, VALIDATION_SHARE)
        splits = [tuple(source.sample for source in sources) for sources in (train, validation, test)]
        return Task(name, "own", *splits)

    def _sources(self, task: str, split: str, files: TaskFiles, seen: Understood) -> Iterator[Source]:
        for position, path in enumerate(files.splits[split]):
            reader = reader_of(path)
            seen.readers.add(reader.name)
            chosen = self._recogniser.of_file(path.parent if path.is_file() else path, files.adapted, seen)
            for number, entry in enumerate(reader.entries(path)):
                seen.records[split] += 1
                try:
                    if entry.fault:
                        raise DataError(entry.fault)
                    record = chosen.plain(entry.value)
                    sample_id = f"{split}-{position}-{number}" if position else f"{split}-{number}"
                    yield from samples_of(
                        record,
                        entry.place if not position else f"{path.name}, {entry.place}",
                        sample_id,
                        images=self.images,
                        home=chosen.home,
                        decode=self.skip_bad,
                        is_open=(f"{task}/{record.group}" if record.group else task) in self.open_tasks,
                    )
                except (DataError, RecursionError) as error:
                    fault = Fault(path, entry.place, str(error))
                    if not self.skip_bad:
                        raise DataError(str(fault)) from error
                    self.faults.append(fault)
                    self.skipped.append(str(fault))
            if seen.records[split]:
                self.notes += chosen.finish(path)


def _divided(sources: Sequence[Source], share: float) -> tuple[list[Source], list[Source]]:
    kept, cut = split_disjoint(sources, [split_keys(source) for source in sources], share)
    return list(kept), list(cut)


def _lost_notes(file: str, read: Mapping[str, list[Source]], groups: Collection[str]) -> list[str]:
    lost = Counter(s.group for sources in read.values() for s in sources if s.group not in groups)
    told = ", ".join(f"{group!r} ({count})" for group, count in sorted(lost.items()))
    return [f"{file}: no train records, so that these are not used: {told}"] if lost else []


def _unused_notes(file: str, seen: Understood) -> list[str]:
    if not seen.unused:
        return []
    names = ", ".join(f"{key} ({count})" for key, count in sorted(seen.unused.items()))
    return [f"{file}: not used, with the number of records that have it: {names}"]
