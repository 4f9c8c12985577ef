"""The hot path of several clients at once: all branches of one linear, each client's on its own rows.

What :mod:`fedmosaic.adapters.functional` computes for one adapter, with a leading dimension of clients: weights are
(C, r, in) and (C, out, r), products are batched. The frozen linear itself is one product over the rows of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Whose rows are whose: those of client 0 come first, then those of client 1, and so on.

    Attributes:
        counts: rows of each of the C clients.
        places: (N,) where each row goes among C x the longest; None where all clients have equally many.
    """

    counts: tuple[int, ...]
    places: Tensor | None

    @classmethod
    def of(cls, counts: Sequence[int], device: torch.device) -> Rows:
        """Return the rows of clients with so many each.

        Args:
            counts: of each client.
            device: where they are.
        """
        most = max(counts)
        if min(counts) == most:
            return cls(tuple(counts), None)
        own = [torch.arange(count, device=device) + client * most for client, count in enumerate(counts)]
        return cls(tuple(counts), torch.cat(own))

    def grouped(self, rows: Tensor) -> Tensor:
        """Return rows (N, k) as (C, M, k), with zeros after those of clients that have fewer than M.

        Args:
            rows: of all clients.
        """
        clients, most = len(self.counts), max(self.counts)
        if self.places is None:
            return rows.reshape(clients, most, rows.shape[-1])
        wide = rows.new_zeros(clients * most, rows.shape[-1])
        wide[self.places] = rows
        return wide.view(clients, most, rows.shape[-1])

    def flat(self, groups: Tensor) -> Tensor:
        """Return the rows (N, k) of (C, M, k); the inverse of :meth:`grouped`.

        Args:
            groups: of all clients.
        """
        wide = groups.reshape(-1, groups.shape[-1])
        return wide if self.places is None else wide[self.places]


class BatchedCall(NamedTuple):
    """One computation of an adapted linear for C clients, besides their branches.

    Exactly one of ``weight`` (a plain frozen base, computed here from ``rows``) and ``out`` is given.

    Attributes:
        rows: (N, in), the input of the base: the rows of all clients.
        inputs: (N, in), the input of the branches after dropout; None if it is ``rows``.
        out: (N, out), what another kind of base has given.
        weights: (C, S) weights of each client's slots, or (1, S) of all alike; None for 1.
        weight: (out, in), frozen.
        bias: (out,), frozen.
        scale: factor on the sum of the branches.
        dtype: dtype of the branches' products.
        layout: whose rows they are.
    """

    rows: Tensor
    inputs: Tensor | None
    out: Tensor | None
    weights: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    scale: float
    dtype: torch.dtype
    layout: Rows


def batched_lora(call: BatchedCall, downs: Sequence[Tensor], ups: Sequence[Tensor]) -> Tensor:
    """Return ``base + scale * sum_s weight_s * B_s A_s x`` with each client's own A and B, (N, out).

    Args:
        call: base, inputs, weights and scale.
        downs: each A_s, (C, r, in).
        ups: each B_s, (C, out, r).
    """
    tensors = (call.rows, call.inputs, call.out, call.weights)
    return _Lora.apply(*tensors, call, *downs, *ups)  # type: ignore[no-any-return,no-untyped-call]


def batched_colora(call: BatchedCall, down: Tensor, up: Tensor, ps: Sequence[Tensor], qs: Sequence[Tensor]) -> Tensor:
    """Return ``base + scale * B ((sum_s weight_s P_s) A x + sum_s weight_s Q_s)`` with each client's P and Q, (N, out).

    Args:
        call: base, inputs, weights and scale.
        down: frozen A, (r, in), of all clients.
        up: frozen B, (out, r), of all clients.
        ps: each P_s, (C, r, r).
        qs: each Q_s, (C, r).
    """
    p, q = _total(ps, call.weights).to(call.dtype), _total(qs, call.weights).to(call.dtype)
    return _CoLora.apply(call.rows, call.inputs, call.out, p, q, call, down, up)  # type: ignore[no-any-return,no-untyped-call]


class _Lora(Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        inputs: Tensor | None,
        out: Tensor | None,
        weights: Tensor | None,
        call: BatchedCall,
        *branches: Tensor,
    ) -> Tensor:
        count = len(branches) // 2  # what needs gradients: 0 rows, 1 inputs, 2 out, 3 weights, from 5 on branches
        result, source = _base(call)
        grouped = call.layout.grouped(source)
        latent = torch.bmm(grouped, _joined(branches[:count], 1, call.dtype).mT)
        _add(call, result, _weighted(latent, weights), _joined(branches[count:], 2, call.dtype))
        needed = ctx.needs_input_grad
        ctx.save_for_backward(
            grouped if any(needed[5 : 5 + count]) else None,
            call.weight,
            latent if needed[3] or any(needed[5 + count :]) else None,
            weights,
            *branches,
        )
        _note(ctx, call)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, weight, latent, weights, *branches = ctx.saved_tensors
        needed, dtype, count = ctx.needs_input_grad, ctx.dtype, len(branches) // 2
        downs, ups, rank = branches[:count], branches[count:], branches[0].shape[1]
        grouped = ctx.layout.grouped(grad.to(dtype))
        to_latent = torch.bmm(grouped, _joined(ups, 2, dtype)).mul_(ctx.scale)
        to_weights = None
        if needed[3]:
            product = (to_latent * latent).sum(1)
            to_weights = product.view(len(product), count, rank).sum(-1).to(weights.dtype)
        to_latent = _weighted(to_latent, weights)
        to_downs: list[Tensor | None] = [None] * count
        to_ups: list[Tensor | None] = [None] * count
        for slot in range(count):
            part = slice(slot * rank, (slot + 1) * rank)
            if needed[5 + slot]:
                to_downs[slot] = torch.bmm(to_latent[:, :, part].mT, source).to(downs[slot].dtype)
            if needed[5 + count + slot]:
                factor = ctx.scale if weights is None else (weights[:, slot] * ctx.scale)[:, None, None]
                to_ups[slot] = torch.bmm(latent[:, :, part].mT, grouped).mul_(factor).mT.to(ups[slot].dtype)
        to_rows, to_inputs = _input_gradients(ctx, grad, weight, to_latent, downs)
        return to_rows, to_inputs, grad if needed[2] else None, to_weights, None, *to_downs, *to_ups


class _CoLora(Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        inputs: Tensor | None,
        out: Tensor | None,
        p: Tensor,
        q: Tensor,
        call: BatchedCall,
        down: Tensor,
        up: Tensor,
    ) -> Tensor:
        result, source = _base(call)
        latent = call.layout.grouped(source @ down.to(call.dtype).t())
        mixed = call.layout.flat(torch.baddbmm(q[:, None], latent, p.mT))
        result.add_(mixed @ up.to(call.dtype).t(), alpha=call.scale)
        ctx.save_for_backward(call.weight, latent if ctx.needs_input_grad[3] else None, p, down, up)
        _note(ctx, call)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, latent, p, down, up = ctx.saved_tensors
        needed, dtype = ctx.needs_input_grad, ctx.dtype
        to_mixed = ctx.layout.grouped((grad.to(dtype) @ up.to(dtype)).mul_(ctx.scale))
        to_p = torch.bmm(to_mixed.mT, latent) if needed[3] else None
        to_q = to_mixed.sum(1) if needed[4] else None
        to_rows = to_inputs = None
        if needed[0] or needed[1]:
            to_latent = ctx.layout.flat(torch.bmm(to_mixed, p))
            to_rows, to_inputs = _with_base(ctx, grad, weight, to_latent @ down.to(dtype))
        return to_rows, to_inputs, grad if needed[2] else None, to_p, to_q, None, None, None


def _base(call: BatchedCall) -> tuple[Tensor, Tensor]:
    """Return the base's output, which is nobody else's, and the branches' input."""
    if call.weight is not None:
        result = F.linear(call.rows, call.weight, call.bias)
    else:
        assert call.out is not None
        result = call.out.clone()
    return result, (call.rows if call.inputs is None else call.inputs).to(call.dtype)


def _add(call: BatchedCall, result: Tensor, latent: Tensor, up: Tensor) -> None:
    """Add ``scale * latent @ up^T`` to the result, in place: (N, out) += (C, M, r) (C, r, out)."""
    if call.layout.places is None and result.dtype is call.dtype:
        result.view(*latent.shape[:2], -1).baddbmm_(latent, up.mT, alpha=call.scale)
    else:
        result.add_(call.layout.flat(torch.bmm(latent, up.mT)), alpha=call.scale)


def _note(ctx: Any, call: BatchedCall) -> None:
    ctx.scale, ctx.dtype, ctx.layout = call.scale, call.dtype, call.layout
    ctx.joint, ctx.dtype_of_rows = call.inputs is None, call.rows.dtype


def _input_gradients(
    ctx: Any, grad: Tensor, weight: Tensor | None, to_latent: Tensor, downs: Sequence[Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    if not (ctx.needs_input_grad[0] or ctx.needs_input_grad[1]):
        return None, None
    through = ctx.layout.flat(torch.bmm(to_latent, _joined(downs, 1, ctx.dtype)))
    return _with_base(ctx, grad, weight, through)


def _with_base(ctx: Any, grad: Tensor, weight: Tensor | None, through: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of ``rows`` and of ``inputs``, given what comes through the branches."""
    through_base = None
    if weight is not None and ctx.needs_input_grad[0]:
        through_base = grad @ weight.to(grad.dtype)
    if ctx.joint:
        total = through if through_base is None else through.add_(through_base)
        return total.to(ctx.dtype_of_rows), None
    own = None if through_base is None else through_base.to(ctx.dtype_of_rows)
    return own, through.to(ctx.dtype_of_rows) if ctx.needs_input_grad[1] else None


def _weighted(latent: Tensor, weights: Tensor | None) -> Tensor:
    """Return the latent (C, M, S r) with each slot's part multiplied by its weight, (C, S) or (1, S)."""
    if weights is None:
        return latent
    clients, rows, width = latent.shape
    by_slot = latent.view(clients, rows, weights.shape[1], width // weights.shape[1])
    return (by_slot * weights.to(latent.dtype)[:, None, :, None]).view(clients, rows, width)


def _total(tensors: Sequence[Tensor], weights: Tensor | None) -> Tensor:
    """Return the sum over slots, each weighted by its column of (C, S) or (1, S)."""
    if weights is None:
        return torch.stack(list(tensors)).sum(0) if len(tensors) > 1 else tensors[0]
    by_slot = torch.stack(list(tensors), 1)
    return (by_slot * weights.view(*weights.shape, *[1] * (by_slot.dim() - 2))).sum(1)


def _joined(tensors: Sequence[Tensor], dim: int, dtype: torch.dtype) -> Tensor:
    joined = tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)
    return joined.to(dtype)
