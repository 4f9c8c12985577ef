"""Benchmarks in the published on-disk form (DRAKE, HFLB, Fed-LLM): used as they are, checked record by record.

dataset/NAME/{train,test}/dataset-ID.json     a list of records, or one a line; the task is called NAME-ID

:mod:`fedmosaic.data.records` defines what a record may hold.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from fedmosaic.data.benchmark import drawn_public, unknown
from fedmosaic.data.file_images import is_file
from fedmosaic.data.images import FileSource
from fedmosaic.data.record_files import Entry, read_records
from fedmosaic.data.records import answers, parse_conversation
from fedmosaic.data.sample import IMAGE_MARK, Sample, Task
from fedmosaic.data.sources import Source, open_option_notes, overlap_notes, split_keys
from fedmosaic.data.splitting import split_disjoint
from fedmosaic.data.texts import check_text, quoted
from fedmosaic.errors import DataError, SettingsError

VALIDATION_SHARE = 0.1

# Tasks that no client of DRAKE trains on (new questions, then new domains).
DRAKE_UNSEEN = frozenset(
    (
        "RecipeQA_ImageCoherence-0",
        "RecipeQA_VisualCloze-0",
        "Mantis_contrastive_caption-1",
        "HQ_Edit-0",
        "DreamSim-0",
        "Mantis_contrastive_caption-0",
        "imagecode-0",
    )
)
HOW_TO_GET = (
    "the published data are not part of this package: take them from their authors' release, whose README says how to "
    "fetch or make each set, unpack them to dataset/NAME/{train,test}/dataset-ID.json below one folder, and name it by "
    "FEDMOSAIC_DATA or by 'data' in the scenario"
)
_FAMILIES = {
    "relation": "Fashion200K MagicBrush VISION FashionIQ VSR NLVR2 CIRR SEED-Bench-2 HQ_Edit DreamSim",
    "reasoning": "IRFL Bongard-HOI Bongard-OpenWorld MIT-States COMICS_Dialogue imagecode",
    "vqa": "VizWiz WCVQA iconqa Co-Instruct-DB TQA dvqa GQA Abstract SNLI-VE COCOQA AQUA",
}
_FAMILY_OF = {dataset: family for family, names in _FAMILIES.items() for dataset in names.split()}
_ENDINGS = (".json", ".jsonl")


class PublishedBenchmark:
    """Tasks below a data folder in the published form. A task is read and checked when it is asked for.

    Args:
        folder: holds ``dataset/NAME/...`` (or is that ``dataset`` folder itself).
        skip_bad: leave out records that cannot be used instead of stopping. Images are then decoded, not only opened,
            while their records are read: it takes longer, but finds damaged ones.
        open_tasks: tasks whose answers are open even where the question lists options.
        public: name of a task whose train samples server and clients may all see; empty for none.

    Attributes:
        skipped: what was left out, one message per record.
        notes: what does not stop a run but makes its scores mean less, one message per task.

    Raises:
        DataError: the folder holds no task, or one in two files.
    """

    name = "published"

    def __init__(
        self, folder: Path, *, skip_bad: bool = False, open_tasks: Collection[str] = (), public: str = ""
    ) -> None:
        self.root = folder
        self.skip_bad = skip_bad
        self.open_tasks = frozenset(open_tasks)
        self._public = public
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self.images = FileSource(folder)
        self._tasks: dict[str, Task] = {}
        self._files: dict[str, Path] = {}
        for path in published_files(folder):
            name = f"{path.parent.parent.name}-{path.stem.removeprefix('dataset-')}"
            self._files[name] = _only(path.parent, path.stem)
        if not self._files:
            raise DataError(f"{folder} holds no dataset/NAME/train/dataset-ID.json; {HOW_TO_GET}")

    def task_names(self) -> list[str]:
        """Return the names of all tasks that clients may train on."""
        return [name for name in self._files if name not in DRAKE_UNSEEN]

    def public(self, count: int, seed: int) -> Sequence[Sample]:
        """Return train samples of the task that was named public, drawn without repetition.

        Args:
            count: number of samples.
            seed: of the draw.

        Raises:
            SettingsError: no task was named, or it has too few samples.
        """
        if not self._public:
            raise SettingsError(
                f"the data in {self.root} name no public samples, which this method needs; put a public dataset there "
                'in the same layout and name it in the scenario: public = "NAME-ID"'
            )
        return drawn_public(self.task(self._public), count, seed)

    def unseen_names(self) -> list[str]:
        """Return the names of the tasks for fast adaptation."""
        return [name for name in self._files if name in DRAKE_UNSEEN]

    def task(self, name: str) -> Task:
        """Return one task.

        Its validation split is taken from its train file so that no image, conversation or text is in both.

        Args:
            name: ``NAME-ID``.

        Raises:
            SettingsError: there is no such task.
            DataError: a file is missing, damaged or empty, or (unless bad records are skipped) a record is bad.
        """
        if name not in self._files:
            dataset, _, subset = name.rpartition("-")
            wanted = self.root / "dataset" / dataset / "train" / f"dataset-{subset}.json"
            raise SettingsError(f"{unknown('task', name, self._files)}; {wanted} is missing: {HOW_TO_GET}")
        if name not in self._tasks:
            self._tasks[name] = self._task(name, self._files[name], is_open=name in self.open_tasks)
        return self._tasks[name]

    def _task(self, name: str, path: Path, *, is_open: bool) -> Task:
        train = self._read(path, is_open=is_open)
        test = self._read(_only(path.parent.parent / "test", path.stem), is_open=is_open)
        self.notes += overlap_notes(name, train, test)
        self.notes += [] if is_open else open_option_notes(name, test)
        samples, keys = [read.sample for read in train], [split_keys(read) for read in train]
        kept, validation = split_disjoint(samples, keys, VALIDATION_SHARE)
        family = _FAMILY_OF.get(path.parent.parent.name, "published")
        return Task(name, family, kept, validation, tuple(read.sample for read in test))

    def _read(self, path: Path, *, is_open: bool) -> list[Source]:
        read: list[Source] = []
        for i, entry in enumerate(read_records(path)):
            try:
                read += self._samples(entry, path, f"{path.parent.name}-{i}", is_open=is_open)
            except (DataError, RecursionError) as error:
                message = f"{path}, {entry.place}: {error}"
                if not self.skip_bad:
                    raise DataError(message) from error
                self.skipped.append(message)
        if not read:
            raise DataError(f"{path}: no usable record; expected a list of at least one")
        return read

    def _samples(self, entry: Entry, path: Path, sample_id: str, *, is_open: bool) -> list[Source]:
        """Return one sample per answer of a record: all of them, or none if one is bad."""
        if entry.fault:
            raise DataError(entry.fault)
        conversation = parse_conversation(entry.value)
        images = tuple(self._key(image, path) for image in conversation.images)
        digests = tuple(map(self.images.digest, images))
        read = []
        for turn, answer in enumerate(answers(conversation, is_open=is_open)):
            n = answer.prompt.count(IMAGE_MARK)
            sample = Sample(f"{sample_id}-{turn}", images[:n], answer.prompt, answer.text, answer.options)
            read.append(Source(sample, entry.place, answer.question, digests[:n]))
        return read

    def _key(self, image: str, path: Path) -> str:
        """Return an image's key, its path relative to the folder; records may give it relative to other folders."""
        if image[:5].lower() == "data:":
            return self.images.add_embedded(image)
        check_text(image, "the path of an image")
        home = path.parent.parent
        for base in (self.root, home, home / "images"):
            candidate = Path(os.path.abspath(base / image))  # noqa: PTH100 - resolving would follow links
            if is_file(candidate, image):
                key = self.images.key_of(candidate)
                self.images.check(key, decode=self.skip_bad)
                return key
        raise DataError(f"image {quoted(image)} is not below {self.root}, {home} or {home / 'images'}; add the file")


def published_files(folder: Path) -> list[Path]:
    """Return the train files of a folder in the published layout; none if it has another one.

    Args:
        folder: holds ``dataset/NAME/...`` (or is that ``dataset`` folder itself).
    """
    dataset = folder / "dataset" if (folder / "dataset").is_dir() else folder
    return [path for path in sorted(dataset.glob("*/train/dataset-*.json*")) if path.suffix in _ENDINGS]


def _only(folder: Path, stem: str) -> Path:
    """Return the one file of a task in a folder, with either ending; the first where there is none."""
    files = [folder / f"{stem}{ending}" for ending in _ENDINGS]
    there = [file for file in files if file.exists()]
    if len(there) > 1:
        raise DataError(f"{there[0]} and {there[1].name} are the same task; keep one of them")
    return (there or files)[0]
