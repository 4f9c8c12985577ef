"""Which slots enter an adapter's output, and with what weights: one object that all linears of an adapter look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fedmosaic.errors import SettingsError


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
class Mix:
    """The slots in use.

    Attributes:
        active: names of the slots that enter the output, in the adapter's order; empty gives the base model.
        weights: their fixed weights; empty when ``gated``.
        gated: whether each linear's gate weighs the slots instead.
        by_sample: (B, slots) weights of each sample of the batch, instead of ``weights``.
        prompt: set while a sample gate may need it.
    """

    active: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    gated: bool = False
    by_sample: Tensor | None = None
    prompt: Prompt | None = None

    @property
    def chosen(self) -> dict[str, float] | Literal["gate"]:
        """What :meth:`Adapter.mix` was given, without slots that do not enter."""
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
        """Return the fixed weights of the slots: (slots,), or (rows, slots) if each sample has its own.

        Raises:
            SettingsError: the rows cannot be those of the samples.
        """
        if self.by_sample is None:
            return torch.tensor(self.weights, dtype=dtype, device=device)
        samples = self.by_sample.shape[0]
        if rows % samples:
            raise SettingsError(f"weights are given for {samples} samples, but {rows} rows cannot be divided by them")
        return self.by_sample.to(device, dtype).repeat_interleave(rows // samples, 0)
