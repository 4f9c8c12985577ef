"""Uploads on the server's disk; in memory, too, are those that together are small, whatever the number of clients.

Every upload is one safetensors file, written once. Checkpoints name the files that they need instead of holding them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fedmosaic import checksum
from fedmosaic.errors import RunError
from fedmosaic.io import save_tensors
from fedmosaic.methods.uploads import Upload

_STOP = "the run cannot go on from here"
_FILE = re.compile(r"round-(\d+)\.safetensors")


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of one upload; each access reads one from disk, and none is kept.

    Args:
        path: the upload's file.

    Attributes:
        shapes: of the tensors by name.

    Raises:
        RunError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as file:
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        with self._opened() as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor.clone()  # not a view of the mapped file, whose pages would count as ours

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def _opened(self) -> safe_open:
        try:
            return safe_open(self.path, framework="pt")
        except FileNotFoundError:
            raise RunError(f"{self.path} is missing; {_STOP}") from None
        except SafetensorError as error:
            raise RunError(f"{self.path} is damaged ({error}); {_STOP}") from None


class UploadStore:
    """Stores uploads in a folder, by client and round.

    Args:
        folder: made when the first upload is stored.
        in_memory: how many values of the clients' last uploads are kept in memory, too: what is read tensor by tensor
            from many small files takes far longer than what is computed with it.
    """

    def __init__(self, folder: Path, *, in_memory: int = 2**24) -> None:
        self.folder = folder
        self._most = in_memory
        self._held: dict[int, int] = {}

    def store(self, upload: Upload) -> Upload:
        """Write an upload.

        Args:
            upload: its client and round name the file.

        Returns:
            The same upload; where the memory for uploads is full, its tensors are read when they are asked for.
        """
        path = self._path(upload.client, upload.round)
        save_tensors(path, upload.tensors)
        self._held.pop(upload.client, None)
        if sum(self._held.values()) + upload.size > self._most:
            return replace(upload, tensors=StoredTensors(path))
        self._held[upload.client] = upload.size
        return upload

    def load(self, client: int, round_: int) -> Mapping[str, Tensor]:
        """Return the tensors that a client uploaded in a round.

        Args:
            client: its id.
            round_: from 1.

        Raises:
            RunError: they are not there, or damaged.
        """
        path = self._path(client, round_)
        checksum.check(path, advice=_STOP)
        return StoredTensors(path)

    def keep_only(self, needed: Collection[tuple[int, int]]) -> None:
        """Delete all other uploads.

        Args:
            needed: (client, round) of the uploads that stay.
        """
        for folder in self.folder.glob("client-*"):
            client = int(folder.name.removeprefix("client-"))
            for path in folder.iterdir():
                found = _FILE.fullmatch(path.name)
                if found is None or (client, int(found[1])) not in needed:
                    path.unlink()
            if not any(folder.iterdir()):
                shutil.rmtree(folder)

    def _path(self, client: int, round_: int) -> Path:
        return self.folder / f"client-{client:05d}" / f"round-{round_:04d}.safetensors"
