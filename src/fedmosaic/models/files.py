"""Checks of a checkpoint's files before transformers reads them: missing or damaged files are named.

transformers fills weights that it does not find with random numbers and leaves out those that it does not need, with a
warning at most. A model whose files do not fit each other would be trained and scored like any other, so it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from fedmosaic.errors import ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_TABLES = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json",
    "processor_config.json", "preprocessor_config.json",
)  # fmt: skip
_AGAIN = "copy or download the folder again"


def check_files(name: str, folder: Path) -> None:
    """Make sure that a folder's configuration files are JSON objects, and that its weights exist and are complete.

    Args:
        name: how the user calls the model.
        folder: the checkpoint.

    Raises:
        ModelError: names the file.
    """
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"base model {name!r}: {folder} holds a PEFT adapter (adapter_config.json); name the model that the "
            "adapter goes on, and this folder as the client's `start`"
        )
    for file in _TABLES:
        if (folder / file).exists():
            read_table(name, folder / file)
    for path in _weight_files(name, folder):
        check_weights(name, path)


def check_weights(name: str, path: Path) -> None:
    """Make sure that a safetensors file exists and is as long as its header says.

    Args:
        name: how the user calls the model.
        path: the file.

    Raises:
        ModelError: it is missing, damaged or cannot be read.
    """
    if not path.is_file():
        raise ModelError(f"base model {name!r}: {path} is missing; {_AGAIN}")
    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except (OSError, SafetensorError) as error:
        raise ModelError(f"base model {name!r}: {path} cannot be read ({error}); {_AGAIN}") from None


def check_fit(module: nn.Module, folder: Path, loaded: Mapping[str, Collection[Any]], layers: nn.ModuleList) -> None:
    """Make sure that weights and configuration fit each other.

    Weights outside the decoder layers that the model does not need are common (heads of other tasks), and so are the
    masks and tables that old releases stored beside the weights; both change nothing. Others in the layers mean another
    depth, or biases that the configuration does not have.

    Args:
        module: as it was loaded.
        folder: the checkpoint.
        loaded: transformers' ``output_loading_info``.
        layers: the module's decoder layers.

    Raises:
        ModelError: weights are missing or of another shape, or there are more of them than the decoder layers have.
    """
    path = next(name for name, each in module.named_modules() if each is layers)
    inside = re.compile(rf"(?:^|\.)({re.escape(path.rpartition('.')[2])}\.\d+\..+)")
    places = {found[1]: each for name, each in module.named_modules() if (found := inside.search(name))}

    def lost(key: str) -> bool:
        found = inside.search(key)
        owner = places.get(found[1].rpartition(".")[0]) if found else None
        return found is not None and (owner is None or any(True for _ in owner.parameters(recurse=False)))

    missing = sorted(loaded["missing_keys"])
    mismatched = sorted(str(each[0]) for each in loaded.get("mismatched_keys", ()))
    unused = sorted(key for key in loaded.get("unexpected_keys", ()) if lost(key))
    for keys, what in ((missing, "not in the weights"), (mismatched, "of another shape"), (unused, "not in the model")):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ModelError(
                f"config.json and the weights in {folder} do not fit each other: {keys[0]}{more} "
                f"{'is' if len(keys) == 1 else 'are'} {what}; use the files of one checkpoint"
            )


def read_table(name: str, path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        name: how the user calls the model.
        path: the file.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"base model {name!r}: {path} cannot be read as JSON ({error}); {_AGAIN}") from None
    if not isinstance(table, dict):
        raise ModelError(f"base model {name!r}: {path} holds a {type(table).__name__}; expected a table; {_AGAIN}")
    return table


def _weight_files(name: str, folder: Path) -> list[Path]:
    """Return the safetensors files that transformers will read."""
    if (folder / WEIGHTS).exists() or (folder / WEIGHTS).is_symlink():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        shards = read_table(name, folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(each, str) for each in shards.values()):
            raise ModelError(f"base model {name!r}: {folder / INDEX} has no weight_map of file names; {_AGAIN}")
        return [folder / each for each in sorted(set(shards.values()))]
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    found = (
        f"{pickled[0]} is pickled, so it can run any code when it is opened, and is never read: save the model again "
        "with save_pretrained, which writes safetensors"
        if pickled
        else f"expected {WEIGHTS}, or {INDEX} and the files that it names"
    )
    raise ModelError(f"base model {name!r}: {folder} has no safetensors weights; {found}")
