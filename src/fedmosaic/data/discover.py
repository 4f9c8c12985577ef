"""Finding the tasks in a file or folder, and the files of their splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmosaic.data.llama_factory import read_dataset_info
from fedmosaic.data.naming import ENDINGS, PART, SPLIT, SPLITS
from fedmosaic.data.readers.arrow_folder import ArrowFolder
from fedmosaic.data.readers.image_folder import ImageFolder, shown
from fedmosaic.errors import DataError

_DEPTH = 4
_ABOUT_DATA = frozenset({"dataset_info.json", "dataset_dict.json", "state.json", "dataset_infos.json"})
_LISTS_IMAGES = "metadata"  # the file of an image folder that says what its images show


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """Where a task's records are.

    Attributes:
        splits: ``train``, ``validation``, ``test`` -> files and folders, in order; there is always ``train``.
        adapted: gives a record the usual names of keys.
        notes: what should be known of the files.
    """

    splits: Mapping[str, tuple[Path, ...]]
    adapted: Callable[[dict[str, Any]], dict[str, Any]] = field(default=dict)
    notes: tuple[str, ...] = ()


def find_tasks(path: Path) -> dict[str, TaskFiles]:
    """Return the tasks in a file or folder by name.

    A file is a task, and so is a folder of one of the known forms. In other folders, files (or folders) that are named
    as splits are one task, all others a task each. ``dataset_info.json`` of LLaMA-Factory tells its tasks itself.

    Args:
        path: the file or folder.

    Raises:
        DataError: there are none.
    """
    try:
        if path.name == "dataset_info.json":
            path = path.parent
        found = dict(_in_folder(path, path, _DEPTH)) if path.is_dir() else {path.stem: _alone(path)}
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror}); check its rights") from error
    if not found:
        raise DataError(f"{path} holds no data files; expected {', '.join(sorted(ENDINGS))}, or a known form of folder")
    return found


def _alone(file: Path) -> TaskFiles:
    """Return a task of one file, with the names that a ``dataset_info.json`` beside it tells."""
    with suppress(DataError):
        for described, adapted in read_dataset_info(file.parent).values():
            if described == file:
                return TaskFiles({"train": (file,)}, adapted)
    return TaskFiles({"train": (file,)})


def _in_folder(folder: Path, root: Path, depth: int) -> Iterator[tuple[str, TaskFiles]]:
    if told := read_dataset_info(folder):
        for name, (file, adapted) in told.items():
            yield _name(folder / name, root), TaskFiles({"train": (file,)}, adapted)
        return
    if _is_whole(folder):
        yield _name(folder, root), TaskFiles({"train": (folder,)})
        return
    units = [each for each in shown(folder) if _is_unit(each)]
    splits = {each: _data_files(each) for each in shown(folder) if each not in units and each.is_dir()}
    splits = {each: files for each, files in splits.items() if files and SPLIT.fullmatch(each.name)}
    groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for unit in units:
        task, split = _task_and_split(unit.name if unit.is_dir() else unit.stem)
        groups[task][split].append(unit)
    by_name = any(len([file for file in files if not PART.fullmatch(file.stem)]) > 1 for files in splits.values())
    for each, files in splits.items():
        task, split = _task_and_split(each.name)
        for file in files:
            groups["/".join(filter(None, (task, file.stem if by_name else "")))][split].append(file)
    for task, found in groups.items():
        yield from _tasks(folder / task if task else folder, root, found)
    for each in shown(folder) if depth else ():
        if each.is_dir() and each not in units and each not in splits:
            yield from _in_folder(each, root, depth - 1)


def _tasks(where: Path, root: Path, found: Mapping[str, list[Path]]) -> Iterator[tuple[str, TaskFiles]]:
    """Yield the task of some splits; without train files, each file is a task of its own."""
    if "train" in found:
        notes = tuple(note for split, files in found.items() for note in _check_parts(_name(where, root), split, files))
        yield _name(where, root), TaskFiles({split: tuple(files) for split, files in found.items()}, notes=notes)
        return
    for files in found.values():
        for file in files:
            yield _name(file.with_suffix(""), root), TaskFiles({"train": (file,)})


def _check_parts(task: str, split: str, files: Sequence[Path]) -> Iterator[str]:
    """Refuse several files that are not the parts of one; yield a note if parts are missing."""
    matches = [PART.fullmatch(file.stem) or SPLIT.fullmatch(file.stem) for file in files]
    totals = {match.groupdict()["parts"] if match else None for match in matches}
    numbered = all(match and (match.re is PART or match["parts"]) for match in matches)
    kinds = {(file.parent, file.suffix.lower()) for file in files}
    if len(files) > 1 and (not numbered or len(totals) > 1 or len(kinds) > 1):
        raise DataError(
            f"{files[0]} and {files[1]} are both {split} of task {task!r}; keep one of them, or give them other names "
            "(parts of one file are called train-00000-of-00002)"
        )
    total = totals.pop()
    if total and int(total) != len(files):
        yield f"{task}: {len(files)} of {int(total)} parts of {split} are there"


def _task_and_split(stem: str) -> tuple[str, str]:
    if match := SPLIT.fullmatch(stem):
        return match["task"] or "", SPLITS[match["split"].lower()]
    if part := PART.fullmatch(stem):
        return part["task"] or ("" if part["parts"] else stem), "train"
    return "" if stem == _LISTS_IMAGES else stem, "train"


def _is_unit(path: Path) -> bool:
    """Return whether a file or folder holds records itself."""
    if path.is_file():
        return path.suffix.lower() in ENDINGS and path.name not in _ABOUT_DATA
    return path.is_dir() and _is_whole(path)


def _data_files(folder: Path) -> list[Path]:
    return [each for each in shown(folder) if each.is_file() and _is_unit(each)]


def _is_whole(folder: Path) -> bool:
    """Return whether a folder is read as one file is: one that ``datasets`` saved, or one of classes of images."""
    if ArrowFolder.recognises(folder, b""):
        return True
    named = [each.name.lower() for each in shown(folder) if each.is_dir()]
    return not any(name in SPLITS for name in named) and ImageFolder.recognises(folder, b"")


def _name(path: Path, root: Path) -> str:
    return root.name if path == root else path.relative_to(root).as_posix()
