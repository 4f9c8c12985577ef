"""A second device without hardware: it computes on the CPU, and refuses operations between the two, as a GPU does.

A tensor of it wraps one of the CPU. Every operation goes through :func:`_computed`, which unwraps its arguments, and
raises where tensors of both devices meet that a real backend would not take together. A process must know it before its
first backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "card"

_LIBRARY = torch.library.Library("aten", "IMPL")
_ACROSS = {"aten::copy_", "aten::_to_copy", "aten::is_same_size"}  # what may read from another device
_INDEXING = {"aten::index.Tensor", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}


class CardTensor(torch.Tensor):
    """A tensor of the card."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> CardTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )
        made.raw = raw
        return made

    def __repr__(self, **_: Any) -> str:
        return f"card({self.raw!r})"

    def tolist(self) -> Any:
        """As on any device; torch has none for subclasses."""
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


class _Factories(TorchDispatchMode):
    """Catches what makes a tensor from none: ``torch.zeros(3, device="card")``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    cards = [leaf for leaf in leaves if isinstance(leaf, CardTensor)]
    asked = kwargs.get("device")
    there = bool(cards) if asked is None else torch.device(asked).type == NAME
    if cards:
        _check(func, args, kwargs)
    if asked is not None and there:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if func._schema.name == "aten::copy_":
        there = isinstance(args[0], CardTensor)
    plain = tree_map_only(CardTensor, lambda each: each.raw, (args, kwargs))
    out = func(*plain[0], **plain[1])
    if func._schema.name == "aten::_to_copy" and not there and cards and out is plain[0][0]:
        out = out.clone()
    if not there:
        return out
    known = {id(each.raw): each for each in cards}  # what works in place returns what it was given

    def wrapped(each: Any) -> Any:
        if isinstance(each, torch.Tensor) and not isinstance(each, CardTensor):
            return known.get(id(each)) if id(each) in known else CardTensor(each)
        return each

    return tree_map(wrapped, out)


def _check(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    name = func._schema.name
    full = f"{name}.{func._schema.overload_name}".rstrip(".")
    if name in _ACROSS:
        return
    looked = (args[0], args[2:]) if name in _INDEXING or full in _INDEXING else (args, kwargs)
    strangers = [
        leaf
        for leaf in tree_flatten(looked)[0]
        if isinstance(leaf, torch.Tensor) and not isinstance(leaf, CardTensor) and leaf.dim() > 0
    ]
    if strangers:
        raise RuntimeError(f"{full}: expected all tensors on one device, found a card's and the CPU's")
    if name in _INDEXING and not isinstance(args[0], CardTensor):
        raise RuntimeError(f"{full}: indices should be on the CPU, or on the device of the indexed tensor")


@cache
def _register() -> None:
    _setup_privateuseone_for_python_backend(NAME)
    for name in ("empty.memory_format", "empty_strided"):  # for threads, in which no mode is active
        overload = getattr(getattr(torch.ops.aten, name.partition(".")[0]), name.partition(".")[2] or "default")

        def make(*args: Any, overload: Any = overload, **kwargs: Any) -> torch.Tensor:
            return CardTensor(overload(*args, **{**kwargs, "device": torch.device("cpu")}))

        _LIBRARY.impl(f"aten::{name}", make, "PrivateUse1")

    _LIBRARY.impl("aten::_copy_from", _copied, "PrivateUse1")


def _copied(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    source, raw = (each.raw if isinstance(each, CardTensor) else each for each in (source, target))
    raw.copy_(source)
    return target


@contextmanager
def card() -> Iterator[str]:
    """Make the device known inside the block; gives its name."""
    _register()
    # wrapped tensors have no inference mode
    with (
        _Factories(),
        patch.object(torch.inference_mode, "__enter__", _no_grad),
        patch.object(torch.inference_mode, "__exit__", _grad),
    ):
        yield NAME


def _no_grad(mode: Any) -> None:
    mode.without = torch.no_grad()
    mode.without.__enter__()


def _grad(mode: Any, *error: Any) -> None:
    mode.without.__exit__(*error)
