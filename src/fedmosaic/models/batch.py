"""Token sequences with their images, as base models read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from fedmosaic.models.past import Past

IGNORED = -100  # the label of a position that is not part of an answer


@dataclass
class Batch:
    """Token sequences with their images, padded on the right.

    Attributes:
        input_ids: (B, T) long.
        attention_mask: (B, T) long; 0 at padding.
        labels: (B, T) long; the token itself inside an answer (with its end token), -100 elsewhere. Not shifted.
        vision: further inputs by name, e.g. ``features`` (images, 4, 256) or ``pixel_values``.
        slot_weights: (B,) how much of each adapter slot enters each row's output, by slot; None: as the adapter is set.
        past: what was read before these tokens, and takes them up; None: nothing.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    vision: dict[str, Tensor] = field(default_factory=dict)
    slot_weights: Mapping[str, Tensor] | None = None
    past: Past | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with all its tensors on a device.

        Args:
            device: e.g. ``cuda``.
        """
        weights = self.slot_weights
        return Batch(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.labels.to(device),
            vision={name: tensor.to(device) for name, tensor in self.vision.items()},
            slot_weights=None if weights is None else {name: tensor.to(device) for name, tensor in weights.items()},
            past=self.past,
        )

    @property
    def last(self) -> Tensor:
        """(B,) position of the last token that is not padding; of a prompt, where the answer is predicted."""
        return self.attention_mask.sum(1) - 1

    @property
    def prompt(self) -> Tensor:
        """(B, T) bool, true at positions that are neither answer nor padding."""
        return self.attention_mask.bool() & (self.labels == IGNORED)


def reading(module: PreTrainedModel, batch: Batch) -> dict[str, Any]:
    """Return the arguments of ``module.base_model`` that say which tokens a batch's tokens attend to.

    Args:
        module: the whole model.
        batch: with a past or without; ``vision`` as the module takes it.
    """
    if batch.past is None:
        return {"attention_mask": batch.attention_mask, "use_cache": False}
    return batch.past.arguments(module, batch.input_ids, batch.attention_mask, batch.vision)


def left_padded(batch: Batch) -> Batch:
    """Return a batch with its padding in front of the tokens.

    Args:
        batch: padded on the right.
    """
    width = batch.input_ids.shape[1]
    gap = width - 1 - batch.last
    places = (torch.arange(width, device=gap.device) - gap[:, None]) % width
    tensors = {name: getattr(batch, name).gather(1, places) for name in ("input_ids", "attention_mask", "labels")}
    vision = {
        name: tensor.gather(1, places) if beside_tokens(tensor, batch.input_ids) else tensor
        for name, tensor in batch.vision.items()
    }
    return dataclasses.replace(batch, vision=vision, **tensors)


def following(batch: Batch, tokens: Tensor, mask: Tensor, past: Past, rows: Tensor | None = None) -> Batch:
    """Return further tokens of answers as a batch to be read after a past.

    Args:
        batch: of the prompts, with the slots' weights in each row.
        tokens: (n, T) long.
        mask: (n, T) long; 0 at padding.
        past: of the same n rows.
        rows: (n,) the prompts that they follow; None: each its own.
    """
    weights = batch.slot_weights
    if weights is not None and rows is not None:
        weights = {name: each.index_select(0, rows.to(each.device)) for name, each in weights.items()}
    return dataclasses.replace(
        batch, input_ids=tokens, attention_mask=mask, labels=tokens, vision={}, slot_weights=weights, past=past
    )


def beside_tokens(tensor: Tensor, input_ids: Tensor) -> bool:
    """Return whether a further input has one value for each token, as token types have.

    Args:
        tensor: an input of the model.
        input_ids: (B, T).
    """
    return tensor.shape == input_ids.shape and not tensor.is_floating_point()


def appended(batch: Batch, tokens: Tensor, rows: Tensor) -> Batch:
    """Return a batch with one more token of the answer after the last one of each chosen row.

    Args:
        batch: padded on the right.
        tokens: (B,) long.
        rows: (B,) bool.
    """
    grow = (0, 1)
    ids, mask, labels = (
        F.pad(batch.input_ids, grow),
        F.pad(batch.attention_mask, grow),
        F.pad(batch.labels, grow, value=IGNORED),
    )
    index = rows.nonzero()[:, 0]
    ids[index, batch.last[index] + 1] = tokens[index]
    mask[index, batch.last[index] + 1] = 1
    labels[index, batch.last[index] + 1] = tokens[index]
    vision = {
        name: F.pad(tensor, grow) if beside_tokens(tensor, batch.input_ids) else tensor
        for name, tensor in batch.vision.items()  # e.g. token types: new tokens are text, 0
    }
    return dataclasses.replace(batch, input_ids=ids, attention_mask=mask, labels=labels, vision=vision)
