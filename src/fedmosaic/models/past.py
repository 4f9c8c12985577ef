"""What a model keeps of tokens that it has read, so that those after them are read alone: a key-value cache.

Prompts are padded on the left here. So the tokens of a row follow each other without a gap, as attention by distance
(sliding windows, ALiBi) and recurrent states need it; elsewhere in fedmosaic batches are padded on the right.
"""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

_BY_POSITION = (DynamicLayer, DynamicSlidingWindowLayer)
"""Caches whose last entry is the last token's."""


class Past:
    """Keys and values of the tokens that were read with it, and what a gate made of the prompts.

    A pass over a batch with ``batch.past`` reads the batch's tokens after those of earlier passes, and adds them.
    The first pass is over whole prompts, padded on the left; later ones may be padded on the right.

    Attributes:
        gates: values that sample gates took from the prompts, (B,) each, by gate.
    """

    def __init__(self) -> None:
        self.gates: dict[int, Tensor] = {}
        self._cache: DynamicCache | None = None
        self._mask: Tensor | None = None  # (B, T)
        self._last: Tensor | None = None  # positions of the last tokens, (..., B, 1)
        self._parts: dict[str, Past] = {}

    def part(self, name: str) -> Past:
        """Return a past of its own for one of several passes over the same tokens.

        Args:
            name: of the pass.
        """
        return self._parts.setdefault(name, Past())

    def of(self, rows: Tensor) -> Past:
        """Return a copy of some rows' past, which grows by itself.

        Args:
            rows: (n,) long; a row may come several times.
        """
        chosen = Past()
        chosen.gates = {gate: values.index_select(0, rows) for gate, values in self.gates.items()}
        chosen._parts = {name: part.of(rows) for name, part in self._parts.items()}
        if self._cache is not None and self._mask is not None:
            chosen._cache = _of_rows(self._cache, lambda tensor: tensor.index_select(0, rows))
            if chosen._cache is None:
                chosen._cache = copy.deepcopy(self._cache)  # its layers may share what they change in place
                chosen._cache.reorder_cache(cast("torch.LongTensor", rows))
            chosen._mask = self._mask.index_select(0, rows)
            chosen._last = None if self._last is None else self._last.index_select(-2, rows)
        return chosen

    @property
    def empty(self) -> bool:
        """Whether nothing was read with it yet."""
        return self._cache is None

    @classmethod
    def of_all(cls, pasts: Sequence[Past]) -> Past | None:
        """Return the pasts of several batches of one model as that of one batch, or None where that cannot be done.

        Shorter ones are padded in front, where the mask hides it. They stay as they are.

        Args:
            pasts: all empty, or none.
        """
        if all(past.empty for past in pasts):
            return cls()
        whole, layers = cls(), []
        masks, lasts = [past._mask for past in pasts], [past._last for past in pasts]
        caches = [past._cache for past in pasts]
        longest = max(caches, key=lambda cache: 0 if cache is None else cache.get_seq_length())
        if longest is None or any(past.gates or past._parts for past in pasts):
            return None
        for alike in zip(*(() if cache is None else cache.layers for cache in caches), strict=False):
            layer = _joined(alike)
            if layer is None:
                return None
            layers.append(layer)
        if len(layers) != len(longest.layers) or any(each is None for each in (*masks, *lasts)):
            return None
        whole._cache = _with_layers(longest, layers)
        whole._mask = _padded_in_front([each for each in masks if each is not None], dim=-1)
        whole._last = torch.cat([each for each in lasts if each is not None], -2)
        return whole

    def shares(self, counts: Sequence[int]) -> list[Past]:
        """Return what :meth:`of_all` has put together, and was read on, batch by batch; they share memory.

        Args:
            counts: rows of each.

        Raises:
            ValueError: what the model keeps cannot be divided.
        """
        assert self._cache is not None and self._mask is not None
        found = []
        for end, count in zip(itertools.accumulate(counts), counts, strict=True):
            share, rows = Past(), slice(end - count, end)
            share._cache = _of_rows(self._cache, lambda tensor, rows=rows: tensor[rows])  # type: ignore[misc]
            if share._cache is None or self._last is None:
                raise ValueError("what the model keeps of tokens cannot be divided by rows")
            share._mask, share._last = self._mask[rows], self._last[..., rows, :]
            found.append(share)
        return found

    def take(self, other: Past) -> None:
        """Be as another past from now on.

        Args:
            other: is not used any more.
        """
        self.gates, self._parts = other.gates, other._parts
        self._cache, self._mask, self._last = other._cache, other._mask, other._last

    def arguments(
        self, module: PreTrainedModel, ids: Tensor, mask: Tensor, vision: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Return the arguments of ``module.base_model`` with which it reads tokens after this past, and adds them.

        Args:
            module: the whole model, whose own way of counting positions it is.
            ids: (B, T) long.
            mask: (B, T) long; 0 at padding.
            vision: further inputs, as the module takes them.
        """
        if self._cache is None:
            self._cache = DynamicCache(config=module.config)
            positions = _positions(module, ids, mask, vision, self._cache)
            self._mask = mask
        else:
            assert self._mask is not None
            positions = None if self._last is None else self._last + mask.cumsum(-1)  # padding stays where it is
            self._mask = torch.cat([self._mask, mask], 1)
        given = {"attention_mask": self._mask, "past_key_values": self._cache, "use_cache": True}
        if positions is None:
            return given
        self._last = positions[..., -1:]
        return given | {"position_ids": positions}


def _joined(layers: Sequence[Any]) -> Any:
    """Return what one layer keeps of several batches as one, or None for a kind that is not known here."""
    longest = max(layers, key=lambda layer: layer.get_seq_length())
    if any(type(layer) not in _BY_POSITION or not layer.is_initialized for layer in layers):
        return None
    layer = copy.copy(longest)  # its tensors are replaced, never changed
    layer.keys = _padded_in_front([each.keys for each in layers], dim=-2)
    layer.values = _padded_in_front([each.values for each in layers], dim=-2)
    return layer


def _padded_in_front(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Return tensors as one over their first dimension, with zeros before those that are shorter in another."""
    width, after = max(each.shape[dim] for each in tensors), [0, 0] * (-dim - 1)
    return torch.cat([F.pad(each, (*after, width - each.shape[dim], 0)) for each in tensors])


def _of_rows(cache: DynamicCache, chosen: Callable[[Tensor], Tensor]) -> DynamicCache | None:
    """Return what is kept of some rows, or None for a kind of layer that is not known here."""
    layers, kept = [], cast("Sequence[Any]", cache.layers)
    for layer in kept:
        if type(layer) not in _BY_POSITION or not layer.is_initialized:
            return None
        other = copy.copy(layer)
        other.keys, other.values = chosen(layer.keys), chosen(layer.values)
        layers.append(other)
    return _with_layers(cache, layers)


def _with_layers(cache: DynamicCache, layers: list[Any]) -> DynamicCache:
    other = copy.copy(cache)
    other.layers = layers
    return other


def _positions(
    module: PreTrainedModel, ids: Tensor, mask: Tensor, vision: Mapping[str, Tensor], cache: DynamicCache
) -> Tensor | None:
    """Return the positions of prompts, (B, T) or, where images count otherwise than text, (3 or 4, B, T).

    None for a model that takes no positions.
    """
    if "position_ids" not in inspect.signature(module.base_model.forward).parameters:
        return None
    prepare = getattr(module, "_prepare_position_ids_for_generation", None)
    if prepare is None:  # another release of transformers
        return (mask.cumsum(-1) - 1).clamp(min=0)
    known = {**vision, "input_ids": ids, "attention_mask": mask, "past_key_values": cache}
    positions: Tensor = prepare(ids, known)
    return positions
