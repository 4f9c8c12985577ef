"""Sources of images: a memory-mapped bank of small images, a folder of files, data URIs."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image

from fedmosaic.data.content import ContentDigests, digest_of, files_below, open_file, quoted
from fedmosaic.data.embedded import embedded_bytes
from fedmosaic.data.embedded_store import EmbeddedStore
from fedmosaic.data.pictures import check_picture, read_picture
from fedmosaic.errors import DataError

# Version of the decoder: raise it when the same file gives other pixels, which invalidates all caches.
_DECODER_VERSION = 1


class ImageSource(Protocol):
    """A set of images with keys."""

    @property
    @abstractmethod
    def collection(self) -> str:
        """The name of the set, whatever its images show now; caches keep one place for each set."""
        ...

    @abstractmethod
    def keys(self) -> Sequence[str]:
        """Return the known keys."""
        ...

    @abstractmethod
    def digest(self, key: str) -> str:
        """Return a text that identifies what one image shows now: caches keep under it what was made from the image.

        Equal texts mean equal pixels, from whatever sources they come.

        Args:
            key: the image's key.

        Raises:
            DataError: as :meth:`load`, but a damaged picture may go unnoticed.
        """
        ...

    @abstractmethod
    def load(self, key: str) -> Image.Image:
        """Return one image as RGB.

        Args:
            key: the image's key.

        Raises:
            DataError: there is no such image, or it cannot be used.
        """
        ...


class BankSource:
    """Images of equal size in one uncompressed ``.npy`` file, read through a memory map.

    Args:
        path: the file: an array (N, height, width, 3) of uint8. The key of image i is ``"%06d" % i``.
        checksum: the file's digest, computed when it was written.

    Raises:
        DataError: the file is missing or is not such an array.
    """

    def __init__(self, path: Path, checksum: str) -> None:
        self.path = path
        self._checksum = checksum
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
    def collection(self) -> str:
        """The bank's checksum."""
        return self._checksum

    def keys(self) -> Sequence[str]:
        """Return all keys in order."""
        return [f"{i:06d}" for i in range(len(self))]

    def digest(self, key: str) -> str:
        """Return the bank's checksum and the key. See :meth:`ImageSource.digest`."""
        return f"{self._checksum}-{key}"

    def load(self, key: str) -> Image.Image:
        """Return one image as RGB. See :meth:`ImageSource.load`."""
        if not (key.isdecimal() and int(key) < len(self) and key == f"{int(key):06d}"):
            raise DataError(f"{self.path.name} has no image {key!r}; keys run from '000000' to '{len(self) - 1:06d}'")
        return Image.fromarray(np.array(self._images[int(key)]))


class FileSource:
    """Image files below a folder; a key is a path relative to it. Images from data URIs can be added.

    No key reaches a file outside the folder, as ``..`` is resolved in the text before anything is opened; symbolic
    links below the folder are followed wherever they lead, because its owner placed them.

    Args:
        root: the folder.
    """

    collection = f"files-{_DECODER_VERSION}"

    def __init__(self, root: Path) -> None:
        self.root = root
        self._paths: dict[str, Path] = {}
        self._digests = ContentDigests()
        self._embedded = EmbeddedStore()
        self._checked: set[tuple[str, bool]] = set()

    def remember(self, home: Path) -> None:
        """Keep digests in the cache folder, so that a large data folder need not be read at every start.

        Args:
            home: the cache folder.
        """
        place = digest_of(os.fsencode(os.path.realpath(self.root)))
        self._digests.remember(home / "digests" / f"{place}.txt")
        self._embedded.folder = home / "embedded"

    def keys(self) -> Sequence[str]:
        """Return the keys of all image files of the folder, whatever their names, and of the added images; sorted."""
        return sorted([*self._embedded, *filter(self._is_image, map(self.key_of, files_below(self.root)))])

    def key_of(self, path: Path | str) -> str:
        """Return the key of the file at a path.

        Args:
            path: relative to the folder, or absolute and below it.

        Raises:
            DataError: the path leads out of the folder.
        """
        for root in (os.path.abspath(self.root), os.path.realpath(self.root)):  # noqa: PTH100 - keeps links' names
            inside = Path(os.path.normpath(os.path.join(root, path)))  # noqa: PTH118 - takes ".." away as text
            if inside != Path(root) and inside.is_relative_to(root):
                return inside.relative_to(root).as_posix()
        raise DataError(f"image {quoted(str(path))} lies outside the data folder {self.root}; use paths relative to it")

    def add_embedded(self, uri: str) -> str:
        """Add an image from a data URI, and keep it while the process runs. Equal images get one key.

        Args:
            uri: ``data:image/png;base64,...``.

        Returns:
            The key: ``data:`` and a digest of the image's bytes.

        Raises:
            DataError: the text is no such URI, names another medium than an image, or its data cannot be decoded.
        """
        content = embedded_bytes(uri)
        key = f"data:{digest_of(content)}"
        if key not in self._embedded:
            check_picture(io.BytesIO(content), f"image {quoted(uri)}", decode=True)
            self._embedded[key] = content
        return key

    def digest(self, key: str) -> str:
        """Return a digest of the image file's bytes as they are now. See :meth:`ImageSource.digest`."""
        if key in self._embedded:
            return f"{self.collection}-{key.removeprefix('data:')}"
        return f"{self.collection}-{self._digests.of(self._path(key), self._name(key))}"

    def load(self, key: str) -> Image.Image:
        """Return one image as RGB, as :func:`~fedmosaic.data.pictures.read_picture` does.

        Args:
            key: the image's key.

        Raises:
            DataError: the file is missing, lies outside the folder, is damaged, or has invalid dimensions.
        """
        with self._open(key) as file:
            return read_picture(file, self._name(key))

    def check(self, key: str, *, decode: bool) -> None:
        """Check one image now rather than when it is needed; each file is checked once.

        Args:
            key: the image's key.
            decode: read all pixels; False reads the header only, which takes a tenth of a millisecond.

        Raises:
            DataError: as :meth:`load`.
        """
        if (key, decode) not in self._checked:
            with self._open(key) as file:
                check_picture(file, self._name(key), decode=decode)
            self._checked.add((key, decode))

    def _open(self, key: str) -> BinaryIO:
        if key in self._embedded:
            return io.BytesIO(self._embedded[key])
        return open_file(self._path(key), self._name(key))

    def _path(self, key: str) -> Path:
        if key not in self._paths:
            self._paths[key] = self.root / self.key_of(key)
        return self._paths[key]

    def _name(self, key: str) -> str:
        return f"image {quoted(key)} below {self.root}"

    def _is_image(self, key: str) -> bool:
        try:
            self.check(key, decode=False)
        except DataError:
            return False
        return True


@dataclass(frozen=True)
class GivenImages:
    """A few image files from anywhere; the key of the i-th is ``str(i)``.

    Attributes:
        paths: the files.
    """

    paths: Sequence[Path]
    _digests: ContentDigests = field(default_factory=ContentDigests, repr=False, compare=False)

    @property
    def collection(self) -> str:
        """The collection of all image files."""
        return FileSource.collection

    def keys(self) -> Sequence[str]:
        """Return the keys in the files' order."""
        return [str(i) for i in range(len(self.paths))]

    def digest(self, key: str) -> str:
        """Return a digest of the image file's bytes as they are now. See :meth:`ImageSource.digest`."""
        path = self.paths[int(key)]
        return f"{self.collection}-{self._digests.of(path, quoted(str(path)))}"

    def load(self, key: str) -> Image.Image:
        """Return one image as RGB. See :meth:`ImageSource.load`."""
        return read_image(self.paths[int(key)])


def read_image(path: Path) -> Image.Image:
    """Return an image file as RGB, as :func:`~fedmosaic.data.pictures.read_picture` does.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing, damaged, or has invalid dimensions.
    """
    with open_file(path, quoted(str(path))) as file:
        return read_picture(file, quoted(str(path)))


class MergedSource:
    """A main source, and a second one whose keys have a prefix and which is opened when it is first needed.

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
    def collection(self) -> str:
        """The main source's collection."""
        return self.main.collection

    def keys(self) -> Sequence[str]:
        """Return the main source's keys."""
        return self.main.keys()

    def digest(self, key: str) -> str:
        """Return the digest that the image's source gives. See :meth:`ImageSource.digest`."""
        source, own = self.place(key)
        return source.digest(own)

    def load(self, key: str) -> Image.Image:
        """Return one image of either source as RGB. See :meth:`ImageSource.load`."""
        source, own = self.place(key)
        return source.load(own)

    def place(self, key: str) -> tuple[ImageSource, str]:
        """Return the source that has an image, and the image's key there.

        Args:
            key: the image's key, with the prefix if it is of the second source.
        """
        if key.startswith(self.prefix):
            return self.second, key.removeprefix(self.prefix)
        return self.main, key
