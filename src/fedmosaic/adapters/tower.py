"""The tower adapter: Co-LoRA at the vision-language interface, in the space that all models on one tower share.

    z' = z + A^T (P A z + Q)                                               z: the tower's features, (d_tower,)

A (r, d_tower) has orthonormal rows and is the same for all models with the tower, whatever their architecture; so are
the shapes of P and Q, and what they mean. It is computed as Co-LoRA of the projector's first linear W, at scale 1:

    W z' + b = W z + b + B (P A z + Q),   B = W A^T

Where W is a bare parameter (Gemma 3) no checkpoint or PEFT folder could hold an offset: there Q stays 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmosaic.adapters.layer import CoLoraLinear, plain_weights
from fedmosaic.errors import SettingsError
from fedmosaic.models.interface import Interface
from fedmosaic.models.parameter_linear import ParameterLinear

SCALE = 1.0
"""alpha / r of tower adapters."""


@dataclass(frozen=True, slots=True, eq=False)
class TowerSite:
    """Where a tower adapter goes, and its frozen basis.

    Attributes:
        interface: of the model.
        basis: A (r, d_tower), with orthonormal rows.
    """

    interface: Interface
    basis: Tensor


@dataclass(frozen=True, slots=True)
class TowerTarget:
    """The linear that gets a tower adapter; see :class:`~fedmosaic.adapters.Target`.

    Attributes:
        path: dotted module path in the whole model.
        tower: name of the tower's feature space.
        in_features: d_tower.
        out_features: of the linear.
    """

    path: str
    tower: str
    in_features: int
    out_features: int

    @property
    def prefix(self) -> str:
        """Start of the names of its tensors: the same for all models with this tower."""
        return f"tower.{self.tower}"

    @property
    def by_layer(self) -> str:
        """Start of the names of its gate's parameters."""
        return self.prefix


class TowerLinear(CoLoraLinear):
    """The projector's first linear with a tower adapter."""

    kind = "tower"

    def trainable(self, name: str) -> dict[str, nn.Parameter]:
        """Return P and Q, or P alone where no offset can be exported. See :meth:`AdaptedLinear.trainable`."""
        return {letter: each for letter, each in self.slot(name).items() if letter != "Q" or self._takes_offset}

    def entry_multiply_adds(self) -> tuple[int, int]:
        """Return the multiply-adds per row of the branches: forwards, and backwards (0 if they are not trained)."""
        features, out, rank = self._sizes
        forwards = self._branch_cost(rank, features + out)
        trained = self._trained_cost(rank, features + out)
        return forwards, trained + rank * out if trained else 0

    def _make(self, down: Tensor, up: Tensor, slots: Sequence[str]) -> None:
        super()._make(down, up, slots)
        for slot in slots:
            self.slot(slot)["Q"].requires_grad_(self._takes_offset)

    @property
    def _takes_offset(self) -> bool:
        return not isinstance(self.base, ParameterLinear)

    def _weights(self, rows: int, device: torch.device) -> Tensor:
        by_sample, owners = self.context.by_sample, self.context.image_rows
        if by_sample is None:
            return super()._weights(rows, device)
        if owners is None or len(owners) != rows:
            known = "it is not known whose they are" if owners is None else f"the batch has {len(owners)} image tokens"
            raise SettingsError(
                f"weights are given for {by_sample.shape[0]} samples, but the projector reads {rows} rows and {known}; "
                "compute inside `with adapter.reading(batch):`, or set adapter.tower_rank=0"
            )
        return by_sample.to(device, self.dtype)[owners.to(device)]


@torch.no_grad()
def lifted(base: nn.Module, basis: Tensor) -> Tensor:
    """Return B = W A^T (out, r), on the base's device; a base with packed weights is asked for it.

    Args:
        base: the projector's first linear.
        basis: A (r, in), on the same device.
    """
    weight = base.weight.t() if isinstance(base, ParameterLinear) else plain_weights(base)[0]
    if weight is not None:
        return (weight.double() @ basis.double().t()).to(basis.dtype)
    dtype = next((each.dtype for each in base.parameters() if each.is_floating_point()), basis.dtype)
    rows = basis.to(dtype)
    up: Tensor = (base(rows) - base(torch.zeros_like(rows))).t()
    return up.to(basis.dtype).contiguous()
