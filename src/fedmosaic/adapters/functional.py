"""The hot path: several low-rank branches in one down-projection and one up-projection.

Written as autograd functions because plain autograd would also compute the gradients of frozen branches, keep the
concatenated weights and the weighted latents of every linear until the backward pass, and add up the gradients that
reach the input through the base linear and through the branches in a pass of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function


def project_down(rows: Tensor, downs: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return ``rows @ [A_1; A_2; ...]^T``, (N, sum of ranks), computed in ``dtype``.

    Args:
        rows: (N, in).
        downs: each A_s, (r_s, in).
        dtype: dtype of the product.
    """
    return _Down.apply(rows, None, None, dtype, *downs)[1]  # type: ignore[no-any-return,no-untyped-call]


def linear_and_down(
    linear: nn.Linear, rows: Tensor, downs: Sequence[Tensor], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return a frozen linear's output (N, out) and :func:`project_down`, with one joint gradient for ``rows``.

    Args:
        linear: the frozen linear; it gets no gradients.
        rows: (N, in).
        downs: each A_s, (r_s, in).
        dtype: dtype of the second product.
    """
    return _Down.apply(rows, linear.weight, linear.bias, dtype, *downs)  # type: ignore[no-any-return,no-untyped-call]


def project_up(
    base: Tensor, latent: Tensor, gates: Tensor | None, ups: Sequence[Tensor], *, scale: float, in_place: bool
) -> Tensor:
    """Return ``base + scale * sum_s gates_s * latent_s @ B_s^T``, (N, out), in the dtype of ``base``.

    Args:
        base: (N, out), the base linear's output.
        latent: (N, S * r), the slots side by side.
        gates: weights of the slots, (S,) or (N, S); None for 1.
        ups: each B_s, (out, r).
        scale: factor on the whole sum.
        in_place: ``base`` belongs to nobody else and may be overwritten.
    """
    return _Up.apply(base, latent, gates, scale, in_place, *ups)  # type: ignore[no-any-return,no-untyped-call]


def weighted(latent: Tensor, gates: Tensor | None) -> Tensor:
    """Return the latent (N, S * r) with each slot's part multiplied by its weight, (S,) or (N, S)."""
    if gates is None:
        return latent
    by_slot = latent.view(latent.shape[0], gates.shape[-1], -1)
    return (by_slot * gates.to(latent.dtype).unsqueeze(-1)).view_as(latent)


def _joined(tensors: Sequence[Tensor], dim: int, dtype: torch.dtype) -> Tensor:
    return (tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)).to(dtype)


class _Down(Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor | None, bias: Tensor | None, dtype: torch.dtype, *downs: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        ctx.save_for_backward(rows, weight, *downs)
        ctx.dtype = dtype
        out = None if weight is None else F.linear(rows, weight, bias)
        return out, rows.to(dtype) @ _joined(downs, 0, dtype).t()

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor | None, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, *downs = ctx.saved_tensors
        for_rows, _, _, _, *for_downs = ctx.needs_input_grad
        to_rows = None
        if for_rows:
            joined = _joined(downs, 0, ctx.dtype)
            if weight is None or grad_out is None:
                to_rows = grad @ joined
            else:  # one buffer for both ways back to the input
                to_rows = (grad_out @ weight.to(grad_out.dtype)).to(ctx.dtype).addmm_(grad, joined)
            to_rows = to_rows.to(rows.dtype)
        parts = torch.split(grad, [down.shape[0] for down in downs], dim=1)
        to_downs = (
            (part.t() @ rows.to(ctx.dtype)).to(down.dtype) if needed else None
            for part, down, needed in zip(parts, downs, for_downs, strict=True)
        )
        return to_rows, None, None, None, *to_downs


class _Up(Function):
    @staticmethod
    def forward(
        ctx: Any, base: Tensor, latent: Tensor, gates: Tensor | None, scale: float, in_place: bool, *ups: Tensor
    ) -> Tensor:
        ctx.save_for_backward(latent, gates, *ups)
        ctx.scale = scale
        mixed, joined = weighted(latent, gates), _joined(ups, 1, latent.dtype).t()
        if base.dtype != latent.dtype:
            return torch.addmm(base.to(latent.dtype), mixed, joined, alpha=scale).to(base.dtype)
        if not in_place:
            return torch.addmm(base, mixed, joined, alpha=scale)
        ctx.mark_dirty(base)
        return base.addmm_(mixed, joined, alpha=scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        latent, gates, *ups = ctx.saved_tensors
        for_base, for_latent, for_gates, _, _, *for_ups = ctx.needs_input_grad
        cast = grad.to(latent.dtype)
        to_latent = to_gates = None
        if for_latent or for_gates:
            to_mixed = (cast @ _joined(ups, 1, latent.dtype)).mul_(ctx.scale)
            to_gates = _gate_gradient(to_mixed, latent, gates) if for_gates else None
            to_latent = weighted(to_mixed, gates)
        parts = torch.split(weighted(latent, gates), [up.shape[1] for up in ups], dim=1) if any(for_ups) else ups
        # (latent^T grad)^T: BLAS is up to twice as fast as for grad^T latent, whose result is tall and thin
        to_ups = (
            (part.t() @ cast).mul_(ctx.scale).t().to(up.dtype) if needed else None
            for part, up, needed in zip(parts, ups, for_ups, strict=True)
        )
        return grad if for_base else None, to_latent, to_gates, None, None, *to_ups


def _gate_gradient(to_mixed: Tensor, latent: Tensor, gates: Tensor) -> Tensor:
    product = to_mixed * latent
    per_row = product.sum(0, keepdim=True) if gates.dim() == 1 else product
    return per_row.view(per_row.shape[0], gates.shape[-1], -1).sum(-1).view_as(gates).to(gates.dtype)
