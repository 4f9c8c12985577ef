"""Finding the tasks in a file or folder, and the files of their splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmosaic.data.llama_factory import read_dataset_info
from fedmosaic.data.readers.arrow_folder import ArrowFolder
from fedmosaic.data.readers.image_folder import ImageFolder
from fedmosaic.errors import DataError

_ENDINGS = frozenset({".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"})
_DEPTH = 4
_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "eval": "test",
}
# train.json, vqa_test.jsonl, validation-00000-of-00004.parquet
_SPLIT = re.compile(rf"(?:(?P<task>.+)[-_.])?(?P<split>{'|'.join(_SPLITS)})(?:-\d+-of-\d+)?", re.IGNORECASE)
_SHARD = re.compile(r"(?P<task>.+)-\d{3,}-of-\d{3,}")
_ABOUT_DATA = frozenset({"dataset_info.json", "dataset_dict.json", "state.json", "dataset_infos.json"})


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """Where a task's records are.

    Attributes:
        splits: ``train``, ``validation``, ``test`` -> files and folders, in order; there is always ``train``.
        adapted: gives a record the usual names of keys.
    """

    splits: Mapping[str, tuple[Path, ...]]
    adapted: Callable[[dict[str, Any]], dict[str, Any]] = field(default=dict)


def find_tasks(path: Path) -> dict[str, TaskFiles]:
    """Return the tasks in a file or folder by name.

    A file is a task, and so is a folder of one of the known forms. In other folders, files (or folders) that are named
    as splits are one task, all others a task each. ``dataset_info.json`` of LLaMA-Factory tells its tasks itself.

    Args:
        path: the file or folder.

    Raises:
        DataError: there are none.
    """
    if not path.is_dir():
        return {path.stem: TaskFiles({"train": (path,)})}
    found = dict(_in_folder(path, path, _DEPTH))
    if not found:
        raise DataError(
            f"{path} holds no data files; expected {', '.join(sorted(_ENDINGS))}, or a known form of folder"
        )
    return found


def _in_folder(folder: Path, root: Path, depth: int) -> Iterator[tuple[str, TaskFiles]]:
    if told := read_dataset_info(folder):
        for name, (file, adapted) in told.items():
            yield _name(folder / name, root), TaskFiles({"train": (file,)}, adapted)
        return
    if _is_whole(folder):
        yield _name(folder, root), TaskFiles({"train": (folder,)})
        return
    groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    below: list[Path] = []
    for each in sorted(each for each in folder.iterdir() if each.name[:1] != "."):
        unit = _unit(each)
        if unit is None:
            below += [each] if each.is_dir() else []
            continue
        stem = each.name if each.is_dir() else each.stem
        match, shard = _SPLIT.fullmatch(stem), _SHARD.fullmatch(stem)
        task, split = (match["task"] or "", _SPLITS[match["split"].lower()]) if match else (stem, "")
        groups[shard["task"] if shard and not match else task][split or "train"].append(unit)
    for task, splits in groups.items():
        where = folder / task if task else folder
        if "train" in splits:
            yield _name(where, root), TaskFiles({split: tuple(files) for split, files in splits.items()})
        else:
            for files in splits.values():
                for file in files:
                    yield _name(file.with_suffix(""), root), TaskFiles({"train": (file,)})
    for each in below if depth else ():
        yield from _in_folder(each, root, depth - 1)


def _unit(path: Path) -> Path | None:
    """Return what holds the records of a file or folder: itself, a split folder's only file, or nothing."""
    if path.is_file():
        return path if path.suffix.lower() in _ENDINGS and path.name not in _ABOUT_DATA else None
    if not path.is_dir():
        return None
    if _is_whole(path):
        return path
    files = [each for each in sorted(path.iterdir()) if each.is_file() and _unit(each)]
    return files[0] if len(files) == 1 and _SPLIT.fullmatch(path.name) else None


def _is_whole(folder: Path) -> bool:
    """Return whether a folder is read as one file is: one that ``datasets`` saved, or one of classes of images."""
    if ArrowFolder.recognises(folder, b""):
        return True
    named = [each.name.lower() for each in folder.iterdir() if each.is_dir() and each.name[:1] != "."]
    return not any(name in _SPLITS for name in named) and ImageFolder.recognises(folder, b"")


def _name(path: Path, root: Path) -> str:
    return root.name if path == root else path.relative_to(root).as_posix()
