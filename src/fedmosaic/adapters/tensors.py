"""Named tensors going in and out of an adapter: copies out, strict copies in."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

import torch
from torch import Tensor

from fedmosaic.errors import ModelError

TensorShapes = Mapping[str, tuple[int, ...]]
"""Shapes of named tensors."""

Value = TypeVar("Value")


PROXY = "proxy."
"""What the names of a proxy model's tensors begin with, where they stand beside those of a client's own model."""


def is_shared(name: str) -> bool:
    """Return whether a slot tensor means the same in every architecture that has it (P and Q).

    Those of blocks have one name in all; those of a tower adapter have the tower's.

    The names of all others start with ``layer.``; they fit clients of the same architecture only.

    Args:
        name: of the tensor.
    """
    return name.startswith(("block.", "tower.")) and name.endswith((".P", ".Q"))


def is_of_proxy(name: str) -> bool:
    """Return whether a tensor belongs to a proxy model, which is the same on all clients whatever their architecture.

    Args:
        name: of the tensor.
    """
    return name.startswith(PROXY)


def of_proxy(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Return a proxy model's tensors (or shapes) under the names that they have beside the own model's.

    Args:
        tensors: by their names in the proxy's adapter.
    """
    return {f"{PROXY}{name}": each for name, each in tensors.items()}


def parted(tensors: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return the tensors of the own model and those of the proxy model, each by the names in its adapter.

    Args:
        tensors: of both; :func:`of_proxy` has named those of the proxy.
    """
    own = {name: each for name, each in tensors.items() if not is_of_proxy(name)}
    return own, {name.removeprefix(PROXY): each for name, each in tensors.items() if is_of_proxy(name)}


def is_slot_tensor(name: str) -> bool:
    """Return whether a tensor belongs to a slot, and not to something else that a client may upload.

    Args:
        name: of the tensor.
    """
    name = name.removeprefix(PROXY)
    return is_shared(name) or (name.startswith("layer.") and name.endswith((".A", ".B")))


def rank_dimension(name: str) -> int | None:
    """Return which dimension of a tensor is a linear's own rank; None if none is, or all share it.

    Args:
        name: of the tensor.
    """
    if not name.startswith("layer.") or is_shared(name):
        return None
    return {"A": 0, "B": 1}.get(name.rpartition(".")[2])


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return detached clones.

    Args:
        tensors: by name.
    """
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def load_strictly(what: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Copy tensors into others in place; all names and shapes are checked before anything is written.

    Args:
        what: names the destination in error messages.
        own: the destination.
        given: the source, of the same names and shapes.

    Raises:
        ModelError: a name is missing or unknown, or a shape differs.
    """
    missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if unknown:
        near = get_close_matches(unknown[0], own, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ModelError(f"{what} has no tensor {unknown[0]!r}{hint}; {len(unknown)} of {len(given)} names do not fit")
    if missing:
        raise ModelError(f"{what}: {missing[0]!r} is missing ({len(missing)} of {len(own)} are)")
    for name, tensor in own.items():
        if given[name].shape != tensor.shape:
            raise ModelError(
                f"{what}: {name!r} has shape {tuple(given[name].shape)}, expected {tuple(tensor.shape)}; "
                "rank, blocks and (for layer.* names) the architecture must be the sender's"
            )
    for name, tensor in own.items():
        tensor.copy_(given[name])
