"""Benchmarks in the published on-disk form (DRAKE, HFLB, Fed-LLM): read as they are, checked record by record.

dataset/NAME/{train,test}/dataset-ID.json     a list of records; the task is called NAME-ID
{"conversations": [{"value": question}, {"value": answer}, ...], "image": path or list of paths}
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.data.benchmark import unknown
from fedmosaic.data.images import FileSource
from fedmosaic.data.options import match_answer, parse_options
from fedmosaic.data.sample import IMAGE_MARK, Sample, Task
from fedmosaic.errors import DataError, SettingsError
from fedmosaic.seeding import rng

VALIDATION_SHARE = 0.1

# Tasks that no client of DRAKE trains on (new questions, then new looks).
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
# Spellings of an image's place that occur in published files.
_PLACEHOLDER = re.compile(r"<\s*image(?:here|[ _-]?\d+)?\s*/?>", re.IGNORECASE)


class PublishedBenchmark:
    """Tasks below a data folder in the published form. A task is read and checked when it is asked for.

    Args:
        folder: holds ``dataset/NAME/...`` (or is that ``dataset`` folder itself).
        skip_bad: leave out records that cannot be used instead of stopping; :attr:`skipped` tells them. Images are then
            decoded, not only opened, while their records are read: it takes longer, but finds damaged ones.
        open_tasks: tasks whose answers are open even where the question lists options.
        public: name of a task whose train samples server and clients may all see; empty for none.

    Attributes:
        skipped: what was left out, one message per record.

    Raises:
        DataError: the folder holds no task.
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
        self.images = FileSource(folder)
        self._tasks: dict[str, Task] = {}
        dataset = folder / "dataset" if (folder / "dataset").is_dir() else folder
        self._files = {
            f"{path.parent.parent.name}-{path.stem.removeprefix('dataset-')}": path
            for path in sorted(dataset.glob("*/train/dataset-*.json"))
        }
        if not self._files:
            raise DataError(f"{folder} holds no dataset/NAME/train/dataset-ID.json; {HOW_TO_GET}")

    def task_names(self) -> list[str]:
        """Return the names of all tasks that clients may train on."""
        return [name for name in self._files if name not in DRAKE_UNSEEN]

    def public(self, count: int, seed: int) -> Sequence[Sample]:
        """Return train samples of the task that was named public, drawn without repetition.

        Raises:
            SettingsError: no task was named, or it has too few samples.
        """
        if not self._public:
            raise SettingsError(
                f"the data in {self.root} name no public samples, which this method needs; put a public dataset there "
                'in the same layout and name it in the scenario: public = "NAME-ID"'
            )
        train = self.task(self._public).train
        if len(train) < count:
            raise SettingsError(f"{self._public} has {len(train)} public samples; this method asks for {count}")
        return [train[int(index)] for index in rng(seed, "public").permutation(len(train))[:count]]

    def unseen_names(self) -> list[str]:
        """Return the names of the tasks for fast adaptation."""
        return [name for name in self._files if name in DRAKE_UNSEEN]

    def task(self, name: str) -> Task:
        """Return one task; its validation split is cut from its train file, by image.

        Raises:
            SettingsError: there is no such task.
            DataError: a file is missing, damaged or empty, or (unless bad records are skipped) a record is bad.
        """
        if name not in self._files:
            dataset, _, subset = name.rpartition("-")
            wanted = self.root / "dataset" / dataset / "train" / f"dataset-{subset}.json"
            raise SettingsError(f"{unknown('task', name, self._files)}; {wanted} is missing: {HOW_TO_GET}")
        if name not in self._tasks:
            path = self._files[name]
            is_open = name in self.open_tasks
            train = self._read(path, is_open=is_open)
            test = self._read(path.parent.parent / "test" / path.name, is_open=is_open)
            kept, validation = split_by_image(train, VALIDATION_SHARE)
            family = _FAMILY_OF.get(path.parent.parent.name, "published")
            self._tasks[name] = Task(name, family, kept, validation, test)
        return self._tasks[name]

    def _read(self, path: Path, *, is_open: bool) -> tuple[Sample, ...]:
        samples: list[Sample] = []
        for i, record in enumerate(_records(path)):
            try:
                samples += self._samples(record, path, f"{path.parent.name}-{i}", is_open=is_open)
            except DataError as error:
                message = f"{path}, record {i}: {error}"
                if not self.skip_bad:
                    raise DataError(message) from error
                self.skipped.append(message)
        if not samples:
            raise DataError(f"{path}: no usable record; expected a list of at least one")
        return tuple(samples)

    def _samples(self, record: object, path: Path, sample_id: str, *, is_open: bool) -> Iterator[Sample]:
        """Yield one sample per answer of a record; later ones begin with the turns before them."""
        turns = _turns(record)
        images = tuple(self._key(image, path) for image in _images(record))
        marks = sum(len(_PLACEHOLDER.findall(question)) for question in turns[::2])
        if marks != len(images):
            raise DataError(f"the text has {marks} {IMAGE_MARK} mark(s) but the record has {len(images)} image(s)")
        asked = ""
        for turn in range(0, len(turns), 2):
            question, answer = _PLACEHOLDER.sub(IMAGE_MARK, turns[turn]).strip(), turns[turn + 1].strip()
            asked = f"{asked}\n{question}".strip()
            options = None if is_open else parse_options(question, answer)
            if options:
                matched = match_answer(answer, options)
                if matched is None:
                    raise DataError(f"the answer {answer!r} is not among the options {list(options)} of the question")
                answer = matched
            shown = images[: asked.count(IMAGE_MARK)]
            yield Sample(f"{sample_id}-{turn // 2}", shown, asked, answer, options)
            asked = f"{asked}\n{answer}"

    def _key(self, image: str, path: Path) -> str:
        """Return an image's path relative to the folder; data sets give it relative to one of three places."""
        home = path.parent.parent
        for base in (self.root, home, home / "images"):
            candidate = base / image
            if candidate.is_file():
                resolved = candidate.resolve()
                if resolved.is_relative_to(self.root.resolve()):
                    key = resolved.relative_to(self.root.resolve()).as_posix()
                    self.images.check(key, decode=self.skip_bad)
                    return key
        raise DataError(f"image {image!r} is not below {self.root}, {home} or {home / 'images'}; add the file")


def _records(path: Path) -> list[object]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; each task needs a train and a test file of the same name") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); the file may be truncated: copy it again") from error
    if not isinstance(table, list) or not table:
        raise DataError(
            f"{path}: expected a list of records, found {type(table).__name__} of length {len(table or ())}"
        )
    return table


def _turns(record: object) -> list[str]:
    conversations: Any = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(conversations, list) or not conversations or len(conversations) % 2:
        raise DataError("expected 'conversations' with question and answer in turn")
    turns = [turn.get("value") if isinstance(turn, dict) else None for turn in conversations]
    if not all(isinstance(turn, str) for turn in turns):
        raise DataError("expected each turn of 'conversations' to have a text 'value'")
    return [str(turn) for turn in turns]


def _images(record: object) -> list[str]:
    images: Any = record.get("image") if isinstance(record, dict) else None
    listed = [images] if isinstance(images, str) else (images or [])
    if not isinstance(listed, list) or not all(isinstance(image, str) for image in listed):
        raise DataError(f"expected 'image' to be a path or a list of paths, found {images!r}")
    return listed


def split_by_image(samples: Sequence[Sample], share: float) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Cut about ``share`` of the samples off so that no image stands in both pieces; the same cut every time.

    Returns:
        The larger piece and the piece cut off (empty if all samples hang together by their images).
    """
    owner: dict[str, int] = {}
    parent = list(range(len(samples)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, sample in enumerate(samples):
        for key in sample.images:
            parent[find(i)] = find(owner.setdefault(key, i))
    clusters: dict[int, list[int]] = {}
    for i in range(len(samples)):
        clusters.setdefault(find(i), []).append(i)
    order = rng(0, "validation").permutation(len(clusters))
    members = list(clusters.values())
    cut: set[int] = set()
    for i in order:
        if len(cut) + len(members[int(i)]) <= share * len(samples):
            cut.update(members[int(i)])
    kept = tuple(sample for i, sample in enumerate(samples) if i not in cut)
    return kept, tuple(sample for i, sample in enumerate(samples) if i in cut)
