"""How much memory a checkpoint's weights take in each precision, and which would fit a device."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors import safe_open

from fedmosaic.models.device import GIB

BYTES = {
    "model.dtype=float32": 4.0,
    "model.dtype=bfloat16": 2.0,
    "model.quantisation=int8": 1.0,
    "model.quantisation=nf4": 0.5,
}
"""Of one weight, by the setting, largest first. What a quantisation leaves as it is, e.g. embeddings, comes on top."""

_FREE = 0.9  # of a device; the rest is for what a step needs at the least


def count_weights(folder: Path) -> int:
    """Return the number of weights in a checkpoint's safetensors files; only their headers are read.

    Args:
        folder: the checkpoint.
    """
    count = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return count


def memory_of(device: torch.device | str) -> int | None:
    """Return a device's memory in bytes; None where it is not known.

    Args:
        device: one that is there.
    """
    kind = torch.device(device)
    return torch.cuda.get_device_properties(kind).total_memory if kind.type == "cuda" else None


def what_fits(folder: Path, device: torch.device | str) -> str:
    """Return what a checkpoint's weights take in each precision, and which fit a device that is otherwise empty.

    Args:
        folder: the checkpoint.
        device: where it did not fit.
    """
    weights, memory = count_weights(folder), memory_of(device)
    needed = {setting: size * weights for setting, size in BYTES.items()}
    sizes = ", ".join(f"{size / GIB:.1f} GiB with {setting}" for setting, size in needed.items())
    text = f"its {weights / 1e9:.2f} billion weights take {sizes}"
    if memory is None:
        return text
    fitting = next((setting for setting, size in needed.items() if size <= _FREE * memory), None)
    return f"{text}; " + (
        f"{fitting} fits if no other model is there (model.offload=true moves idle ones away)"
        if fitting
        else "none of these fits: use a smaller model"
    )
