"""Atomic writing of files and folders: after a crash each is complete or absent. Reading of JSON and safetensors."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmosaic import checksum
from fedmosaic.errors import RunError
from fedmosaic.processes import is_running

if TYPE_CHECKING:
    from torch import Tensor

_STOP = "the run cannot go on from here"
_TEMPORARY = re.compile(r"\..+\.(\d+)\.part")


def write_atomically(path: Path, data: bytes | str, *, mode: int = 0o666) -> None:
    """Write a file under a temporary name, sync it, and rename it.

    Args:
        path: the file; its folder is made if it does not exist.
        data: the content; a text is written in UTF-8.
        mode: who may read and write it, from its first byte on; the process's umask takes away from it.

    Raises:
        OSError: it cannot be written, e.g. as the disk is full: names the file, which is as it was.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(mode)
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically, with a checksum.

    Args:
        path: the file; its folder is made if it does not exist.
        tensors: by name, on any device; none need be contiguous.
        metadata: texts for the file's header.

    Raises:
        OSError: as :func:`write_atomically`.
    """
    import safetensors.torch  # noqa: PLC0415 - takes a second to import; other files do without

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(whole, {**(metadata or {}), checksum.NAME: checksum.BLANK})
    write_atomically(path, checksum.sealed(data))


def load_tensors(path: Path, *, advice: str = _STOP) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Args:
        path: the file.
        advice: what to do if it is damaged; ends the error message.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        RunError: the file is missing or damaged.
    """
    import safetensors.torch  # noqa: PLC0415 - as above

    checksum.check(path, advice=advice)
    try:
        return dict(safetensors.torch.load_file(path))
    except safetensors.SafetensorError as error:
        raise RunError(f"{path} is damaged ({error}); {advice}") from None


def save_json(path: Path, table: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with a checksum as its first entry.

    Args:
        path: the file; its folder is made if it does not exist.
        table: what JSON can hold, by name.

    Raises:
        OSError: as :func:`write_atomically`.
    """
    write_atomically(path, checksum.sealed(json.dumps({checksum.NAME: checksum.BLANK, **table}).encode()))


def load_json(path: Path, *, advice: str) -> dict[str, Any]:
    """Return the object in a JSON file that this program wrote, without its checksum.

    Args:
        path: the file.
        advice: what to do if it is damaged; ends the error message.

    Raises:
        RunError: the file is missing or damaged.
    """
    checksum.check(path, advice=advice)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError(f"expected an object, found {type(table).__name__}")
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        raise RunError(f"{path} is damaged ({error}); {advice}") from None
    table.pop(checksum.NAME, None)
    return table


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """Write a folder atomically: the files go to a temporary folder, which is renamed at the end of the ``with`` block.

    Args:
        path: the folder's final name; an existing folder is replaced. If the block raises, nothing is left.

    Yields:
        The temporary folder.
    """
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _sync(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clear_temporaries(folder: Path) -> None:
    """Delete what killed processes have left half written in a folder.

    Args:
        folder: on a disk of this machine; it need not be there.
    """
    for path in folder.glob(".*.part"):
        if (found := _TEMPORARY.fullmatch(path.name)) and not _runs(int(found[1])):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether another process of this number is there; where this cannot be asked without harm, as if none were."""
    return os.name == "posix" and process != os.getpid() and is_running(process)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _sync(folder: Path) -> None:
    """Let a folder's new names survive a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
