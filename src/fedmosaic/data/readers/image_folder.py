"""``image-folder``: a folder for each class, with its images; asks which class an image shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from fedmosaic.data.naming import ENDINGS, SPLITS
from fedmosaic.data.record_files import Entry

QUESTION = "What does the image show?"


class ImageFolder:
    """Folders that hold folders of images, of at least two classes, and no files of data."""

    name = "image-folder"

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Return whether all there is are folders of images. See :meth:`Reader.recognises`."""
        if not path.is_dir() or any(each.suffix.lower() in ENDINGS for each in shown(path)):
            return False
        beside = _beside(path)
        return len({folder.name for each in beside for folder in _classes(each)}) > 1 and all(
            any(_images(folder)) for folder in _classes(path)
        )

    @classmethod
    def entries(cls, path: Path) -> Iterator[Entry]:
        """Yield a question for each image, with the classes as its options. See :meth:`Reader.entries`.

        The classes are those of all splits, so that all splits choose among the same.
        """
        names = sorted({folder.name for each in _beside(path) for folder in _classes(each)})
        options = {"label": names, "text": names}  # not letters in order: K may be another class than the eleventh
        for file in _images(path):
            yield Entry(f"image {file.name}", None, "it is in no folder of a class")
        for folder in _classes(path):
            for below in filter(Path.is_dir, shown(folder)):
                yield Entry(
                    f"folder {folder.name}/{below.name}", None, "it is in the folder of a class; expected images"
                )
            for file in _images(folder):
                image = file.relative_to(path).as_posix()
                value = {"question": QUESTION, "answer": folder.name, "image": image, "options": options}
                yield Entry(f"image {image}", value)


def shown(path: Path) -> list[Path]:
    """Return what is in a folder, but for hidden files and folders.

    Args:
        path: the folder.
    """
    return sorted(each for each in path.iterdir() if each.name[:1] != ".")


def _classes(path: Path) -> list[Path]:
    return [each for each in shown(path) if each.is_dir()]


def _beside(path: Path) -> list[Path]:
    """Return the folders of all splits of which one is given; else this folder alone."""
    if path.name.lower() not in SPLITS:
        return [path]
    return [each for each in _classes(path.parent) if each.name.lower() in SPLITS]


def _images(folder: Path) -> list[Path]:
    """Return the files that are named as images; what they hold is checked when they are read."""
    Image.init()
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in Image.EXTENSION and file.is_file())
