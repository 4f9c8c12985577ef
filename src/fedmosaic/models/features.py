"""Features of the frozen vision tower, computed once per image and kept on disk: training never runs the tower."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedmosaic import events
from fedmosaic.data.images import ImageSource, MergedSource
from fedmosaic.errors import DataError
from fedmosaic.models.pixels import normalise
from fedmosaic.models.vision import FEATURE_SIZE, TOKENS_PER_IMAGE, VisionTower

ProgressCallback = Callable[[int, int], None]
_Image = tuple[str, str]  # digest, key
_T = TypeVar("_T")

_BATCH = 16  # images at once, always: other sizes select other kernels, whose results differ in the last bit
_PREPROCESSING_VERSION = 1  # raise it when the same image gives other features
_SHARD = 1024  # images per file; an interruption loses at most this much work


class FeatureStore:
    """The features of one collection of images under one tower, shared by all processes that use the same folder.

    Features are stored by the image's content (:meth:`ImageSource.digest`), never by its name: a replaced picture has
    no features yet, and a renamed or copied one has them already. Files are only ever added: each holds the features of
    up to 1024 images and their digests, is written under a temporary name and renamed when complete. A lock keeps two
    processes from computing the same images; reading needs none.

    Args:
        images: where missing images are loaded from.
        tower: computes what is missing.
        home: the cache folder; features go to ``home/features/<tower>-<collection>``.
        workers: threads that compute batches side by side (useful when torch itself is set to one thread).
    """

    def __init__(self, images: ImageSource, tower: VisionTower, *, home: Path, workers: int = 1) -> None:
        """Open the store, creating its folder."""
        self.images = images
        self.tower = tower
        self.workers = workers
        collection = _digest(f"{_PREPROCESSING_VERSION} {images.collection}")
        self.folder = home / "features" / f"{tower_digest(tower)[:16]}-{collection[:16]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rows: dict[str, tuple[Tensor, int]] = {}
        self._loaded: set[str] = set()

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys, one for each distinct image and in order, whose features are not on disk yet.

        Args:
            keys: image keys; repetitions are fine.
        """
        return list(self._missing(self._distinct(keys)).values())

    def prepare(self, keys: Iterable[str], *, progress: ProgressCallback | None = None) -> int:
        """Compute the missing features and return the number of images computed.

        Args:
            keys: image keys; repetitions are fine.
            progress: called with (images done, images to do) after each batch.

        Raises:
            DataError: an image is missing or unreadable; finished files stay.
        """
        return self._fill(self._distinct(keys), progress=progress)

    def get(self, keys: Sequence[str]) -> Tensor:
        """Return the features (n, 4, 256) fp32 of n images, computing those that are missing.

        Args:
            keys: the images' keys.

        Raises:
            DataError: an image is missing or unreadable.
        """
        if not keys:
            return torch.empty(0, TOKENS_PER_IMAGE, FEATURE_SIZE)
        digests = [self.images.digest(key) for key in keys]
        if any(digest not in self._rows for digest in digests):
            self._fill(dict(zip(digests, keys, strict=True)))
        rows = [self._rows[digest] for digest in digests]
        return torch.stack([features[row] for features, row in rows]).float()

    def _distinct(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the first key of each distinct image, by digest."""
        distinct: dict[str, str] = {}
        for key in dict.fromkeys(keys):
            distinct.setdefault(self.images.digest(key), key)
        return distinct

    def _missing(self, images: Mapping[str, str]) -> dict[str, str]:
        """Return the images, keys by digest, whose features are not on disk yet."""
        if any(digest not in self._rows for digest in images):
            self._load_new_shards()
        return {digest: key for digest, key in images.items() if digest not in self._rows}

    def _fill(self, images: Mapping[str, str], *, progress: ProgressCallback | None = None) -> int:
        """Compute what is missing of images, keys by digest; see :meth:`prepare`."""
        if not self._missing(images):
            return 0
        with FileLock(self.folder / "lock"):
            todo = self._missing(images)  # another process may have done them while this one waited
            done = 0
            for shard in _chunks(list(todo.items()), _SHARD):
                features = self._compute(shard, progress=progress, done=done, total=len(todo))
                self._write([digest for digest, _ in shard], features)
                done += len(shard)
        self._load_new_shards()
        return done

    def _compute(self, shard: Sequence[_Image], *, progress: ProgressCallback | None, done: int, total: int) -> Tensor:
        parts = []
        with ThreadPoolExecutor(self.workers) as pool:
            for part in pool.map(self._batch, _chunks(shard, _BATCH)):
                parts.append(part)
                done += len(part)
                if total > _BATCH:  # a few are not worth a progress event
                    events.work("images", done, total)
                if progress is not None:
                    progress(done, total)
        return torch.cat(parts)

    def _batch(self, batch: Sequence[_Image]) -> Tensor:
        pixels = normalise([self._load(digest, key) for digest, key in batch])
        padding = pixels.new_zeros(_BATCH - len(batch), *pixels.shape[1:])
        weight = self.tower.stem.weight
        with torch.inference_mode():
            tokens = self.tower(torch.cat([pixels, padding]).to(weight.device, weight.dtype)).last_hidden_state
        features: Tensor = tokens[: len(batch)].to("cpu", torch.float16)
        return features

    def _load(self, digest: str, key: str) -> Image.Image:
        image = self.images.load(key)
        if self.images.digest(key) != digest:
            raise DataError(f"image {key!r} was changed while it was read; start again when the data are complete")
        return image

    def _write(self, digests: Sequence[str], features: Tensor) -> None:
        temporary = self.folder / f"{uuid.uuid4().hex}.part"
        save_file({"features": features.contiguous()}, temporary, metadata={"keys": json.dumps(list(digests))})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(temporary.with_suffix(".safetensors"))

    def _load_new_shards(self) -> None:
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self._loaded:
                self._read_shard(path)
                self._loaded.add(path.name)

    def _read_shard(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                digests = json.loads(file.metadata()["keys"])
                features = file.get_tensor("features")  # a view of the mapped file: rows are read when they are used
        except (SafetensorError, KeyError, TypeError, ValueError):
            path.unlink(missing_ok=True)  # damaged (a full disk, a crash): it is only a cache
            return
        if features.shape != (len(digests), TOKENS_PER_IMAGE, FEATURE_SIZE):
            path.unlink(missing_ok=True)
            return
        for row, digest in enumerate(digests):
            self._rows.setdefault(digest, (features, row))


class Features:
    """The features of all images that a model may see: one store for each source of a merged one.

    Args:
        images: where the images are; see :class:`FeatureStore`.
        tower: computes the features.
        home: the cache folder.
    """

    def __init__(self, images: ImageSource, tower: VisionTower, *, home: Path) -> None:
        """Open the main source's store."""
        self.images = images
        self._merged = images if isinstance(images, MergedSource) else None
        self._open = partial(FeatureStore, tower=tower, home=home)
        self.main = self._open(images.main if isinstance(images, MergedSource) else images)
        self._second: FeatureStore | None = None

    def prepare(self, keys: Iterable[str]) -> None:
        """Compute the missing features.

        Args:
            keys: image keys; repetitions are fine.

        Raises:
            DataError: an image is missing or unreadable; finished files stay.
        """
        by_store: dict[int, tuple[FeatureStore, list[str]]] = {}
        for store, key in map(self._place, keys):
            by_store.setdefault(id(store), (store, []))[1].append(key)
        for store, own in by_store.values():
            store.prepare(own)

    def get(self, keys: Sequence[str]) -> Tensor:
        """Return the features (n, 4, 256) fp32 of n images, computing those that are missing.

        Args:
            keys: the images' keys.

        Raises:
            DataError: an image is missing or unreadable.
        """
        parts = [store.get([key for _, key in own]) for store, own in groupby(map(self._place, keys), itemgetter(0))]
        return torch.cat(parts) if parts else self.main.get([])

    def _place(self, key: str) -> tuple[FeatureStore, str]:
        if self._merged is None:
            return self.main, key
        source, own = self._merged.place(key)
        if source is self._merged.main:
            return self.main, own
        if self._second is None:
            self._second = self._open(source)
        return self._second, own


def tower_digest(tower: VisionTower) -> str:
    """Return a digest of all weights of a tower and their types: equal digests, equal features.

    Args:
        tower: the vision tower.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tower.state_dict().items():
        digest.update(f"{name} {tensor.dtype}".encode())  # other numbers, other rounding
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
