"""Images that records of all formats name: paths below a folder, file: URIs, data URIs; never fetched."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fedmosaic.data.images import FileSource
from fedmosaic.data.texts import check_text, quoted
from fedmosaic.errors import DataError

LONGEST_URI = 64 * 2**20
"""Characters of the longest data URI that is decoded."""

_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):", re.IGNORECASE)


class FileImages(FileSource):
    """Images below a folder, found from the file whose record names them. See :class:`FileSource` for what is allowed.

    Args:
        root: the folder that no path leaves.
    """

    def take(self, image: str, home: Path, *, decode: bool) -> str:
        """Return the key of an image that a record names, after checking the image.

        Args:
            image: a path, relative to the record's folder, its ``images`` folder or the root, or absolute and below
                the root; a ``file:`` or ``data:`` URI.
            home: the record's folder.
            decode: whether to read all pixels.

        Raises:
            DataError: there is no such image, it lies outside the root, is on the network, too large, or damaged.
        """
        scheme = _SCHEME.match(image)
        kind = scheme["scheme"].lower() if scheme else ""
        if kind == "data":
            if len(image) > LONGEST_URI:
                raise DataError(
                    f"image {quoted(image)} has {len(image):,} characters; expected at most {LONGEST_URI:,}: "
                    "put it in a file"
                )
            return self.add_embedded(image)
        if kind == "file":
            image = unquote(urlsplit(image).path)
        elif kind and image[len(kind) :].startswith("://"):
            raise DataError(f"image {quoted(image)} is on the network, and is not fetched; save it and give its path")
        check_text(image, "the path of an image")
        for base in dict.fromkeys((home, home / "images", self.root)):
            candidate = Path(os.path.abspath(base / image))  # noqa: PTH100 - resolving would follow links
            if is_file(candidate, image):
                key = self.key_of(candidate)
                self.check(key, decode=decode)
                return key
        raise DataError(f"image {quoted(image)} is not below {home} or {self.root}; add the file, or mend its path")


def is_file(path: Path, image: str) -> bool:
    """Return whether a path leads to a file.

    Args:
        path: where it would be.
        image: as the record calls it.

    Raises:
        DataError: the path is none that can be looked for.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise DataError(
            f"image {quoted(image)}, of {len(image)} characters, cannot be looked for ({error.strerror}); expected a "
            "path, or an image as data:image/png;base64,..."
        ) from error
