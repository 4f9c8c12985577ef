"""Own tasks as a benchmark: samples and pictures that are given as objects, with no files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from fedmosaic.data.benchmark import drawn_public, unknown
from fedmosaic.data.images import read_image
from fedmosaic.data.pictures import as_picture
from fedmosaic.data.sample import Sample, Task
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError, SettingsError

IN_MEMORY = "in-memory"
"""What scenarios call such a benchmark."""

Picture = Image.Image | Path | str
"""A PIL image, or the path of an image file, which is read when the image is needed."""


class InMemoryImages:
    """Pictures by key. They are not copied: leave them as they are while a run uses them.

    Args:
        pictures: what each key stands for.
    """

    collection = IN_MEMORY

    def __init__(self, pictures: Mapping[str, Picture] | None = None) -> None:
        self._pictures: dict[str, Picture] = dict(pictures or {})
        self._digests: dict[str, str] = {}

    def add(self, picture: Picture) -> str:
        """Take in one more picture and return its key.

        Args:
            picture: a PIL image, or the path of an image file.
        """
        key = str(len(self._pictures))
        self._pictures[key] = picture
        return key

    def clear(self) -> None:
        """Forget all pictures."""
        self._pictures.clear()
        self._digests.clear()

    def keys(self) -> Sequence[str]:
        """Return the keys in the order in which they were given."""
        return list(self._pictures)

    def digest(self, key: str) -> str:
        """Return a digest of a picture's pixels as they were when it was first asked for.

        Args:
            key: of the picture.

        Raises:
            DataError: there is no such picture, or it cannot be used.
        """
        if key not in self._digests:
            picture = self.load(key)
            digest = hashlib.blake2b(f"{picture.size} ".encode() + picture.tobytes(), digest_size=16)
            self._digests[key] = f"pixels-{digest.hexdigest()}"
        return self._digests[key]

    def load(self, key: str) -> Image.Image:
        """Return one picture as RGB, as :func:`~fedmosaic.data.pictures.read_picture` does.

        Args:
            key: of the picture.

        Raises:
            DataError: there is no such picture, or it cannot be used.
        """
        if key not in self._pictures:
            raise DataError(f"no image was given for the key {quoted(key)}; give it: images={{{key!r}: ...}}")
        picture = self._pictures[key]
        if isinstance(picture, Image.Image):
            return as_picture(picture, f"image {quoted(key)}")
        if isinstance(picture, str | Path):
            return read_image(Path(picture).expanduser())
        raise DataError(
            f"image {quoted(key)} is a {type(picture).__name__}; expected a PIL image or the path of an image file"
        )


class InMemoryBenchmark:
    """Given tasks over given pictures.

    Args:
        tasks: all of them; names differ.
        images: the pictures that the samples name.
        trained: names of the tasks that clients train on; the others are unseen. Default: all.
        public: name of a task whose train samples server and clients may all see; empty for none.

    Raises:
        DataError: two tasks have one name, two samples of a task one id, or a sample's image was not given.
        SettingsError: a task that clients train on was not given; names near ones.
    """

    name = IN_MEMORY

    def __init__(
        self,
        tasks: Iterable[Task],
        *,
        images: Mapping[str, Picture] | None = None,
        trained: Iterable[str] | None = None,
        public: str = "",
    ) -> None:
        self.images = InMemoryImages(images)
        self._tasks: dict[str, Task] = {}
        for task in tasks:
            if task.name in self._tasks:
                raise DataError(f"two tasks are called {task.name!r}; give each a name of its own")
            self._tasks[task.name] = _checked(task, set(self.images.keys()))
        self._trained = list(self._tasks) if trained is None else list(dict.fromkeys(trained))
        self._public = public
        for name in filter(None, (*self._trained, public)):
            self.task(name)

    def task_names(self) -> list[str]:
        """Return the names of the tasks that clients train on."""
        return list(self._trained)

    def unseen_names(self) -> list[str]:
        """Return the names of the tasks that no client trains on, but for the public one."""
        return [name for name in self._tasks if name not in (*self._trained, self._public)]

    def task(self, name: str) -> Task:
        """Return one task.

        Args:
            name: of the task.

        Raises:
            SettingsError: there is no such task; names near ones.
        """
        if name not in self._tasks:
            raise unknown("task", name, self._tasks)
        return self._tasks[name]

    def public(self, count: int, seed: int) -> Sequence[Sample]:
        """Return train samples of the public task, drawn without repetition.

        Args:
            count: how many.
            seed: of the draw.

        Raises:
            SettingsError: no task is public, or it has too few samples.
        """
        if not self._public:
            raise SettingsError(
                "no task is public, but this method needs public samples; give a task for it and name it in the "
                'scenario: public = "NAME"'
            )
        return drawn_public(self.task(self._public), count, seed)


def _checked(task: Task, images: set[str]) -> Task:
    """Return a task whose samples are tuples, each with an id of its own and images that are there."""
    for split in ("train", "validation", "test"):
        ids: set[str] = set()
        for sample in getattr(task, split):
            if sample.id in ids:
                raise DataError(f"task {task.name!r}: two {split} samples have the id {sample.id!r}; give each its own")
            ids.add(sample.id)
            if missing := [key for key in sample.images if key not in images]:
                raise DataError(
                    f"task {task.name!r}, sample {sample.id!r}: no image was given for the key {missing[0]!r}; "
                    f"give it: images={{{missing[0]!r}: ...}}"
                )
    return dataclasses.replace(task, train=tuple(task.train), validation=tuple(task.validation), test=tuple(task.test))
