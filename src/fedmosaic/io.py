"""Atomic writing of files and folders: after a crash each is complete or absent. Reading of JSON and safetensors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmosaic.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file under a temporary name, sync it, and rename it.

    Args:
        path: the file; its folder is made if it does not exist.
        data: the content; a text is written in UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically.

    Args:
        path: the file; its folder is made if it does not exist.
        tensors: by name, on any device; none need be contiguous.
        metadata: texts for the file's header.
    """
    import safetensors.torch  # noqa: PLC0415 - takes a second to import; other files do without

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # With empty metadata and no tensors, safetensors writes a file that it cannot read.
    write_atomically(path, safetensors.torch.save(whole, dict(metadata) if metadata else None))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Args:
        path: the file.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        RunError: the file is missing or damaged.
    """
    import safetensors.torch  # noqa: PLC0415 - as above

    try:
        return dict(safetensors.torch.load_file(path))
    except FileNotFoundError:
        raise RunError(f"{path} is missing; the run cannot go on from here") from None
    except safetensors.SafetensorError as error:
        raise RunError(f"{path} is damaged ({error}); remove its folder to go on from the one before") from None


def load_json(path: Path, *, advice: str) -> dict[str, Any]:
    """Return the object in a JSON file that this program wrote.

    Args:
        path: the file.
        advice: what to do if it is damaged; ends the error message.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError(f"expected an object, found {type(table).__name__}")
        return table
    except FileNotFoundError:
        raise RunError(f"{path} is missing; {advice}") from None
    except ValueError as error:  # of JSON, or of UTF-8
        raise RunError(f"{path} is damaged ({error}); {advice}") from None


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """Write a folder atomically: the files go to a temporary folder, which is renamed at the end of the ``with`` block.

    Args:
        path: the folder's final name; an existing folder is replaced. If the block raises, nothing is left.

    Yields:
        The temporary folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
