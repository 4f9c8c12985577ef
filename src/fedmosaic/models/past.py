"""What a model keeps of tokens that it has read, so that those after them are read alone: a key-value cache.

Prompts are padded on the left here. So the tokens of a row follow each other without a gap, as attention by distance
(sliding windows, ALiBi) and recurrent states need it; elsewhere in fedmosaic batches are padded on the right.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


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
            chosen._cache = copy.deepcopy(self._cache)  # its layers may share what they change in place
            chosen._cache.reorder_cache(cast(torch.LongTensor, rows))
            chosen._mask = self._mask.index_select(0, rows)
            chosen._last = None if self._last is None else self._last.index_select(-2, rows)
        return chosen

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
