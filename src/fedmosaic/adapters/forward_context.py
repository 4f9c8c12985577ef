"""What a pass through an adapter depends on beside its input: one object that all linears of an adapter share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fedmosaic.errors import SettingsError

SlotWeights = str | Mapping[str, float]
"""How slots enter the output: ``"gate"``, the name of the one slot that does, or fixed weights by slot.

Slots that are left out or at 0 do not enter; an empty mapping gives the base model.
"""


def fixed_weights(weights: SlotWeights) -> dict[str, float] | Literal["gate"]:
    """Return slot weights in their plainest form.

    Args:
        weights: in any form.

    Returns:
        The weights that are not zero, by slot, or ``"gate"``.
    """
    if isinstance(weights, str):
        return "gate" if weights == "gate" else {weights: 1.0}
    return {name: float(weight) for name, weight in weights.items() if weight}


@dataclass(slots=True)
class Prompt:
    """The prompt positions of the batch that is being computed, and the gate values that they gave.

    Attributes:
        mask: (B, T) bool, True at positions that are neither answer nor padding.
        values: gate of each sample (B,) by linear, kept for the decoding steps that follow.
    """

    mask: Tensor
    values: dict[int, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class ForwardContext:
    """The slots in use, and what is known of the batch.

    Attributes:
        active: names of the slots that enter the output, in the adapter's order; empty gives the base model.
        weights: their fixed weights; empty when ``gated``.
        gated: whether each linear's gate weighs the slots instead.
        by_sample: (B, slots) weights of each sample of the batch, instead of ``weights``.
        image_rows: (N,) the sample of each row that the projector reads, where samples have weights of their own.
        prompt: set while a sample gate may need it.
    """

    active: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    gated: bool = False
    by_sample: Tensor | None = None
    image_rows: Tensor | None = None
    prompt: Prompt | None = None

    @property
    def chosen(self) -> dict[str, float] | Literal["gate"]:
        """The slot weights that :meth:`Adapter.mix` was given, as :func:`fixed_weights` writes them."""
        return "gate" if self.gated else dict(zip(self.active, self.weights, strict=True))

    @property
    def uniform(self) -> bool:
        """Whether one factor on the whole sum does (also for a gate, which weighs by itself)."""
        return self.by_sample is None and len(set(self.weights)) <= 1

    @property
    def factor(self) -> float:
        """The fixed weight that all slots have, or 1."""
        return self.weights[0] if self.weights and self.uniform else 1.0

    def tensor(self, rows: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the fixed weights of the slots.

        Args:
            rows: how many inputs a linear reads; a multiple of the samples where each has weights of its own.
            device: of the result.
            dtype: of the result.

        Returns:
            (slots,), or (rows, slots) if each sample has its own.

        Raises:
            SettingsError: the rows cannot be those of the samples.
        """
        if self.by_sample is None:
            return torch.tensor(self.weights, dtype=dtype, device=device)
        samples = self.by_sample.shape[0]
        if rows % samples:
            raise SettingsError(f"weights are given for {samples} samples, but {rows} rows cannot be divided by them")
        return self.by_sample.to(device, dtype).repeat_interleave(rows // samples, 0)
