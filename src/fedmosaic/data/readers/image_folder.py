"""``image-folder``: a folder for each class, with its images; asks which class an image shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from fedmosaic.data.record_files import Entry

QUESTION = "What does the image show?"


class ImageFolder:
    """Folders that hold at least two folders of images, and no other files but hidden ones."""

    name = "image-folder"

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Return whether all there is are folders of images. See :meth:`Reader.recognises`."""
        return len(_classes(path)) > 1 and all(any(_images(folder)) for folder in _classes(path))

    @classmethod
    def entries(cls, path: Path) -> Iterator[Entry]:
        """Yield a question for each image, with the classes as its options. See :meth:`Reader.entries`."""
        options = [folder.name for folder in _classes(path)]
        for folder in _classes(path):
            for file in _images(folder):
                image = file.relative_to(path).as_posix()
                value = {"question": QUESTION, "answer": folder.name, "image": image, "options": options}
                yield Entry(f"image {image}", value)


def _classes(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and each.name[:1] != ".") if path.is_dir() else []


def _images(folder: Path) -> list[Path]:
    """Return the files that are named as images; what they hold is checked when they are read."""
    Image.init()
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in Image.EXTENSION and file.is_file())
