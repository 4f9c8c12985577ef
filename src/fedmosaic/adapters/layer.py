"""A frozen linear with adapter slots: conventional LoRA or Co-LoRA.

    LoRA      h = W x + (alpha / r) * sum_s g_s B_s A_s x              A_s, B_s trainable; B_s = 0 at the start
    Co-LoRA   h = W x + (alpha / r) * B ((sum_s g_s P_s) A x + sum_s g_s Q_s)
                                                                       P_s, Q_s trainable and 0 at the start;
                                                                       A (r, in), B (out, r) frozen, shared by all slots

with g_s the weight of slot s. P (r, r) and Q (r,) have the same shape in every architecture, so they can be averaged
between models of any size; that means something once A and B are aligned (FedMosaic, Co-LoRA).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmosaic.adapters.functional import linear_and_down, project_down, project_up, weighted
from fedmosaic.adapters.gate import Gate
from fedmosaic.adapters.mix import Mix


class AdaptedLinear(nn.Module, ABC):
    """What both kinds share: the base linear, the mix of slots, dropout, dtypes.

    Args:
        base: the frozen linear; anything that maps (..., in) to (..., out), so also a quantised one.
        down: initial A, (r, in).
        up: initial B, (out, r).
        slots: names of the slots.
        scale: alpha / r.
        dropout: probability on the adapter's input, while ``training``.
        mix: which slots enter; shared by all linears of an adapter.
        gate: weighs the two slots in use while ``mix.gated``.
    """

    kind: str
    letters: tuple[str, str]

    def __init__(
        self,
        base: nn.Module,
        down: Tensor,
        up: Tensor,
        *,
        slots: Sequence[str],
        scale: float,
        dropout: float,
        mix: Mix,
        gate: Gate | None,
    ) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        self.dropout = dropout
        self.mix = mix
        self.gate = gate
        self._make(down, up, slots)

    @property
    def weight(self) -> Any:
        """The base linear's weight: some models look at its dtype."""
        return self.base.weight

    @property
    def bias(self) -> Any:
        """The base linear's bias."""
        return self.base.bias

    def slot(self, name: str) -> dict[str, nn.Parameter]:
        """Return the slot's parameters by their letters: A (r, in), B (out, r), or P (r, r), Q (r,)."""
        return {letter: getattr(self, f"{letter}_{name}") for letter in self.letters}

    @abstractmethod
    def _make(self, down: Tensor, up: Tensor, slots: Sequence[str]) -> None:
        """Register each slot's parameters."""

    @abstractmethod
    def _downs(self) -> list[Tensor]:
        """Return the down-projections of the slots in use, (r, in) each."""

    @abstractmethod
    def _add_branches(
        self, out: Tensor, latent: Tensor, gates: Tensor | None, *, scale: float, in_place: bool
    ) -> Tensor:
        """Return ``out`` (N, out) plus the branches for ``latent`` (N, k), weighted by ``gates``, (S,) or (N, S)."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map (..., in) to (..., out). Without slots in use this is exactly the base linear."""
        if not self.mix.active:
            return self.base(x, *args, **kwargs)  # type: ignore[no-any-return]
        rows = x.reshape(-1, x.shape[-1])
        downs = self._downs()
        dtype = _compute_dtype(downs[0])
        plain = _is_plain(self.base)
        if plain and not (self.training and self.dropout):
            out, latent = linear_and_down(self.base, rows, downs, dtype)  # type: ignore[arg-type]
        else:
            # a plain linear gets rows: overwriting a view of its output would cost a copy of the gradient
            out = self.base(rows) if plain else self.base(x, *args, **kwargs)
            out = out.reshape(-1, out.shape[-1])
            latent = project_down(F.dropout(rows, self.dropout, self.training), downs, dtype)
        gates, factor = self._gates(rows)
        adapted = self._add_branches(out, latent, gates, scale=self.scale * factor, in_place=plain)
        return adapted.view(*x.shape[:-1], adapted.shape[-1])

    def _register(self, slot: str, **tensors: Tensor) -> None:
        for letter, tensor in tensors.items():
            self.register_parameter(f"{letter}_{slot}", nn.Parameter(tensor))

    def _active(self, letter: str) -> list[Tensor]:
        return [getattr(self, f"{letter}_{name}") for name in self.mix.active]

    def _gates(self, rows: Tensor) -> tuple[Tensor | None, float]:
        """Return the slots' weights as a tensor, or None and one factor where that is enough."""
        if self.mix.gated and self.gate is not None:
            return self.gate(rows), 1.0
        if self.mix.uniform:
            return None, self.mix.weights[0]
        return self.mix.tensor(self._active(self.letters[0])[0]), 1.0


class LoraLinear(AdaptedLinear):
    """Conventional LoRA: every slot has its own A and B, which start as the same ``down`` and ``up``."""

    kind = "lora"
    letters = ("A", "B")

    def _make(self, down: Tensor, up: Tensor, slots: Sequence[str]) -> None:
        for name in slots:
            self._register(name, A=down.clone(), B=up.clone())

    def _downs(self) -> list[Tensor]:
        return self._active("A")

    def _add_branches(
        self, out: Tensor, latent: Tensor, gates: Tensor | None, *, scale: float, in_place: bool
    ) -> Tensor:
        return project_up(out, latent, gates, self._active("B"), scale=scale, in_place=in_place)


class CoLoraLinear(AdaptedLinear):
    """Co-LoRA: all slots share the frozen A and B; P and Q are mixed before the multiplication."""

    kind = "colora"
    letters = ("P", "Q")
    A: Tensor
    B: Tensor

    def _make(self, down: Tensor, up: Tensor, slots: Sequence[str]) -> None:
        rank = down.shape[0]
        self.register_buffer("A", down.clone())
        self.register_buffer("B", up.clone())
        for name in slots:
            self._register(name, P=down.new_zeros(rank, rank), Q=down.new_zeros(rank))

    def _downs(self) -> list[Tensor]:
        return [self.A]

    def _add_branches(
        self, out: Tensor, latent: Tensor, gates: Tensor | None, *, scale: float, in_place: bool
    ) -> Tensor:
        ps, qs, dtype = self._active("P"), self._active("Q"), latent.dtype
        if gates is None or gates.dim() == 1:
            mixed = F.linear(latent, _combined(ps, gates).to(dtype), _combined(qs, gates).to(dtype))
        else:  # weights that differ between rows cannot be folded into P and Q: mix the r-dimensional results
            results = weighted(F.linear(latent, torch.cat(ps).to(dtype), torch.cat(qs).to(dtype)), gates)
            mixed = results.view(results.shape[0], len(ps), -1).sum(1)
        return project_up(out, mixed, None, [self.B], scale=scale, in_place=in_place)


def _is_plain(base: nn.Module) -> bool:
    """Whether the base is a frozen ``nn.Linear`` whose output nobody else sees: then it can be computed with ours."""
    return (
        type(base) is nn.Linear
        and not (base._forward_hooks or base._forward_pre_hooks or base.weight.requires_grad)
        and (base.bias is None or not base.bias.requires_grad)
    )


def _compute_dtype(own: Tensor) -> torch.dtype:
    """Return the dtype to multiply in: the adapter's own, or the one of an autocast region."""
    device = own.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else own.dtype


def _combined(tensors: list[Tensor], gates: Tensor | None) -> Tensor:
    """Return the weighted sum (plain without gates)."""
    if gates is not None:
        tensors = [weight * tensor for weight, tensor in zip(gates.unbind(), tensors, strict=True)]
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total
