"""Where images come from: a memory-mapped bank of small images, or a folder of files."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from fedmosaic.errors import DataError

LARGEST_PIXELS = 40_000_000  # more is a broken header or a decompression bomb
LARGEST_RATIO = 50
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"))


class ImageSource(Protocol):
    """Gives images by key."""

    @property
    def fingerprint(self) -> str:
        """A text that changes when any image changes; caches of image features are kept under it."""
        ...

    def keys(self) -> Sequence[str]:
        """Return the known keys."""
        ...

    def load(self, key: str) -> Image.Image:
        """Return one image as RGB.

        Raises:
            DataError: there is no such image, or it cannot be used.
        """
        ...


class BankSource:
    """Images of equal size in one uncompressed ``.npy`` file, read through a memory map.

    Args:
        path: the file: an array (N, height, width, 3) of uint8. The key of image i is ``"%06d" % i``.
        fingerprint: checksum of the file, taken when it was written.

    Raises:
        DataError: the file is missing or is not such an array.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self._fingerprint = fingerprint
        try:
            self._images = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: not a readable image bank ({error}); delete its folder to build it anew"
            ) from error
        if self._images.ndim != 4 or self._images.shape[-1] != 3 or self._images.dtype != np.uint8:
            raise DataError(
                f"{path}: holds {self._images.dtype} {self._images.shape}, expected uint8 (N, height, width, 3); "
                "delete its folder to build it anew"
            )

    def __len__(self) -> int:
        return len(self._images)

    @property
    def fingerprint(self) -> str:
        """The bank's checksum."""
        return self._fingerprint

    def keys(self) -> Sequence[str]:
        """Return all keys in order."""
        return [f"{i:06d}" for i in range(len(self))]

    def load(self, key: str) -> Image.Image:
        """Return one image as RGB.

        Raises:
            DataError: the bank has no such image.
        """
        if not (key.isdecimal() and int(key) < len(self) and key == f"{int(key):06d}"):
            raise DataError(f"{self.path.name} has no image {key!r}; keys run from '000000' to '{len(self) - 1:06d}'")
        return Image.fromarray(np.array(self._images[int(key)]))


class FileSource:
    """Image files below a folder; a key is a path relative to it.

    Args:
        root: the folder.
        known: the keys in use, for :meth:`keys` and the fingerprint; None for all image files of the folder.
    """

    def __init__(self, root: Path, known: Iterable[str] | None = None) -> None:
        self.root = root
        self._known = None if known is None else sorted(set(known))
        self._stamp = ""
        self._embedded: dict[str, bytes] = {}
        self._checked: set[tuple[str, bool]] = set()

    @property
    def fingerprint(self) -> str:
        """A digest of names, sizes and times of change of the known files; reading all pixels would take too long."""
        if not self._stamp:
            digest = hashlib.blake2b(digest_size=16)
            for key in self.keys():
                status = self._path(key).stat()
                digest.update(f"{key}\x1f{status.st_size}\x1f{status.st_mtime_ns}\x1e".encode())
            self._stamp = digest.hexdigest()
        return self._stamp

    def keys(self) -> Sequence[str]:
        """Return the known keys, sorted."""
        if self._known is None:
            files = (path for path in self.root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
            self._known = sorted(path.relative_to(self.root).as_posix() for path in files)
        return list(self._known)

    def key_of(self, path: Path | str) -> str:
        """Return the key of the file at a path: relative to the folder, or absolute and below it.

        Raises:
            DataError: the path leads out of the folder.
        """
        root = os.path.abspath(self.root)  # noqa: PTH100 - keeps links' names
        inside = Path(os.path.normpath(os.path.join(root, path)))  # noqa: PTH118 - takes ".." away as text
        if inside != Path(root) and inside.is_relative_to(root):
            return inside.relative_to(root).as_posix()
        raise DataError(f"image {str(path)!r} lies outside the data folder {self.root}; use paths relative to it")

    def add_embedded(self, uri: str) -> str:
        """Take in an image that a record holds as a data URI (``data:image/png;base64,...``) and return its key.

        Raises:
            DataError: the text is no such URI, or its data cannot be decoded.
        """
        head, _, data = uri.partition(",")
        try:
            if not head.lower().startswith("data:image/") or not head.lower().endswith(";base64"):
                raise ValueError("expected data:image/png;base64,...")
            content = base64.b64decode(data, validate=True)
            with Image.open(io.BytesIO(content)) as image:
                image.load()
        except (ValueError, OSError, binascii.Error) as error:
            raise DataError(f"image {uri[:60]!r}: no readable data URI ({error})") from error
        key = f"data:{hashlib.blake2b(content, digest_size=16).hexdigest()}"
        self._embedded[key] = content
        return key

    def digest(self, key: str) -> str:
        """Return a digest of the image file's bytes."""
        content = self._embedded.get(key) or self._path(key).read_bytes()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def _path(self, key: str) -> Path:
        path = self.root / key
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DataError(f"image {key!r} lies outside the data folder {self.root}; use paths relative to it")
        if not path.is_file():
            raise DataError(f"image {key!r} is not a file below {self.root}; add it or remove the record that uses it")
        return path

    def load(self, key: str) -> Image.Image:
        """Return one image as RGB; transparent parts become white.

        Raises:
            DataError: the file is missing, lies outside the folder, is corrupt, or has absurd dimensions.
        """
        if key in self._embedded:
            with Image.open(io.BytesIO(self._embedded[key])) as image:
                return _as_rgb(image)
        return read_image(self._path(key))

    def check(self, key: str, *, decode: bool) -> None:
        """Check one image now rather than when it is needed; each file is looked at once.

        Args:
            key: which.
            decode: read all pixels; False reads the header only, which takes a tenth of a millisecond.

        Raises:
            DataError: as :meth:`load`.
        """
        if (key, decode) not in self._checked:
            with _opened(self._path(key)) as image:
                if decode:
                    image.load()
            self._checked.add((key, decode))


@dataclass(frozen=True)
class GivenImages:
    """A few image files from anywhere; the key of the i-th is ``str(i)``."""

    paths: Sequence[Path]

    @property
    def fingerprint(self) -> str:
        """A digest of the files' bytes."""
        digest = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            digest.update(hashlib.blake2b(path.read_bytes()).digest())
        return digest.hexdigest()

    def keys(self) -> Sequence[str]:
        """Return the keys in the files' order."""
        return [str(i) for i in range(len(self.paths))]

    def load(self, key: str) -> Image.Image:
        """Return one image as RGB; raises as :func:`read_image`."""
        return read_image(self.paths[int(key)])


def read_image(path: Path) -> Image.Image:
    """Return an image file as RGB; transparent parts become white.

    Raises:
        DataError: the file is missing, corrupt, or has absurd dimensions.
    """
    with _opened(path) as image:
        return _as_rgb(image)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open one file; whatever Pillow raises about it, also later, becomes one clear error."""
    try:
        with Image.open(path) as image:
            _check_size(path, *image.size)
            yield image
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({error}); replace the file or remove its record") from error


class MergedSource:
    """A main source, and a second one whose keys carry a prefix and which is opened when it is first needed.

    Args:
        main: the images of the samples; its keys stay as they are.
        prefix: begins the keys of the second source, e.g. ``public/``.
        second: opens the second source.
    """

    def __init__(self, main: ImageSource, prefix: str, second: Callable[[], ImageSource]) -> None:
        self.main = main
        self.prefix = prefix
        self._open = second
        self._second: ImageSource | None = None

    @property
    def second(self) -> ImageSource:
        """The second source."""
        if self._second is None:
            self._second = self._open()
        return self._second

    @property
    def fingerprint(self) -> str:
        """The main source's; caches keep the second source's features under its own."""
        return self.main.fingerprint

    def keys(self) -> Sequence[str]:
        """Return the main source's keys."""
        return self.main.keys()

    def load(self, key: str) -> Image.Image:
        """Return one image of either source as RGB; raises as the source does."""
        if key.startswith(self.prefix):
            return self.second.load(key.removeprefix(self.prefix))
        return self.main.load(key)


def _check_size(path: Path, width: int, height: int) -> None:
    if (
        min(width, height) < 1
        or width * height > LARGEST_PIXELS
        or max(width, height) > LARGEST_RATIO * min(width, height)
    ):
        raise DataError(
            f"{path}: {width} x {height} pixels; expected at least 1 x 1, at most {LARGEST_PIXELS:,} pixels and "
            f"sides that differ by less than {LARGEST_RATIO} times"
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        clear = image.convert("RGBA")
        ground = Image.new("RGBA", clear.size, "white")
        ground.alpha_composite(clear)
        return ground.convert("RGB")
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
