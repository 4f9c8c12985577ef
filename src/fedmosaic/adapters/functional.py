"""The hot path: all branches of one linear, and a plain linear itself, in one autograd function.

Plain autograd would compute the gradients of frozen slots too, keep the concatenated weights and the weighted latents
of every linear until the backward pass, scale and add in passes of their own, and sum up separately the gradients that
reach the input through the base linear and through the branches. In the tiny models the nodes themselves cost as much
as the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


class Call(NamedTuple):
    """One computation of an adapted linear, besides its branches.

    Exactly one of ``weight`` (a plain frozen base, computed here from ``rows``) and ``out`` is given.

    Attributes:
        rows: (N, in), the input of the base.
        inputs: (N, in), the input of the branches after dropout; None if it is ``rows``.
        out: (N, out), what another kind of base has given.
        logit: the gate's logit, () or (N,), of the second of two slots; of a single slot, its weight itself; None
            without a gate.
        weight: (out, in), frozen.
        bias: (out,), frozen.
        gates: fixed weights of the slots, (S,) or (N, S); None for 1 or with a gate.
        scale: factor on the sum of the branches.
        dtype: dtype of the branches' products.
    """

    rows: Tensor
    inputs: Tensor | None
    out: Tensor | None
    logit: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    gates: Tensor | None
    scale: float
    dtype: torch.dtype


def lora(call: Call, downs: Sequence[Tensor], ups: Sequence[Tensor]) -> Tensor:
    """Return ``base + scale * sum_s gate_s * B_s A_s x``, (N, out), in the base's dtype.

    Args:
        call: base, inputs, gates and scale.
        downs: each A_s, (r, in).
        ups: each B_s, (out, r).
    """
    if not torch.is_grad_enabled():
        return _lora(call, downs, ups)[0]
    tensors = (call.rows, call.inputs, call.out, call.logit)
    return _Lora.apply(*tensors, call, *downs, *ups)  # type: ignore[no-any-return,no-untyped-call]


def colora(call: Call, down: Tensor, up: Tensor, ps: Sequence[Tensor], qs: Sequence[Tensor]) -> Tensor:
    """Return ``base + scale * B ((sum_s gate_s P_s) A x + sum_s gate_s Q_s)``, (N, out), in the base's dtype.

    Args:
        call: base, inputs, gates and scale.
        down: frozen A, (r, in).
        up: frozen B, (out, r).
        ps: each P_s, (r, r).
        qs: each Q_s, (r,).
    """
    by_row = call.gates is not None and call.gates.dim() > 1
    if by_row or (call.logit is not None and call.logit.dim()):
        return _colora_by_row(call, down, up, ps, qs)
    if not torch.is_grad_enabled():
        return _colora(call, down, up, ps, qs)[0]
    tensors = (call.rows, call.inputs, call.out, call.logit)
    return _CoLora.apply(*tensors, call, down, up, *ps, *qs)  # type: ignore[no-any-return,no-untyped-call]


def slot_weights(logit: Tensor, slots: int = 2) -> Tensor:
    """Return the weights of the slots that a gate weighs.

    Args:
        logit: the gate's logit, () or (N,); of a single slot, its weight itself.
        slots: 1 or 2.

    Returns:
        (1 - g, g) of two slots, (2,) or (N, 2); of a single slot (1,) or (N, 1).
    """
    return torch.sigmoid(torch.stack((-logit, logit), -1)) if slots == 2 else logit.unsqueeze(-1)


class _Lora(Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        inputs: Tensor | None,
        out: Tensor | None,
        logit: Tensor | None,
        call: Call,
        *branches: Tensor,
    ) -> Tensor:
        count = len(branches) // 2  # what needs gradients: 0 rows, 1 inputs, 2 out, 3 logit, from 5 on branches
        result, latent, gates = _lora(call, branches[:count], branches[count:])
        needed = ctx.needs_input_grad
        keep_inputs = any(needed[5 : 5 + count])
        keep_latent = needed[3] or any(needed[5 + count :])
        _remember(ctx, call, latent if keep_latent else None, gates, keep_inputs, branches)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, weight, latent, gates, *branches = ctx.saved_tensors
        needed, dtype, count = ctx.needs_input_grad, ctx.dtype, len(branches) // 2
        downs, ups, rank = branches[:count], branches[count:], branches[0].shape[0]
        cast = _in(grad, dtype)
        to_latent = (cast @ _joined(ups, 1, dtype)).mul_(ctx.scale)
        to_logit = None
        if needed[3]:
            product = to_latent * latent
            product = product if gates.dim() > 1 else product.sum(0)
            to_gates = product.view(*product.shape[:-1], count, rank).sum(-1)
            to_logit = _logit_gradient(to_gates, gates)
        to_latent = _weighted(to_latent, gates)
        to_downs: list[Tensor | None] = [None] * count
        to_ups: list[Tensor | None] = [None] * count
        by_row = gates is not None and gates.dim() > 1
        mixed = _weighted(latent, gates) if by_row and any(needed[5 + count :]) else latent
        for slot in range(count):
            part = slice(slot * rank, (slot + 1) * rank)
            if needed[5 + slot]:
                to_downs[slot] = _in(to_latent[:, part].t() @ _in(source, dtype), downs[slot].dtype)
            if needed[5 + count + slot]:
                # (latent^T grad)^T: BLAS is up to twice as fast as for grad^T latent, whose result is tall and thin
                factor = ctx.scale if gates is None or by_row else gates[slot] * ctx.scale
                to_ups[slot] = _in((mixed[:, part].t() @ cast).mul_(factor).t(), ups[slot].dtype)
        to_rows, to_inputs = _input_gradients(ctx, grad, weight, to_latent, downs)
        return to_rows, to_inputs, grad if needed[2] else None, to_logit, None, *to_downs, *to_ups


class _CoLora(Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        inputs: Tensor | None,
        out: Tensor | None,
        logit: Tensor | None,
        call: Call,
        down: Tensor,
        up: Tensor,
        *pq: Tensor,
    ) -> Tensor:
        count = len(pq) // 2  # what needs gradients: 0 rows, 1 inputs, 2 out, 3 logit, from 7 on P and Q
        result, latent, gates, p = _colora(call, down, up, pq[:count], pq[count:])
        keep_latent = ctx.needs_input_grad[3] or any(ctx.needs_input_grad[7:])
        _remember(ctx, call, latent if keep_latent else None, gates, False, (down, up, p, *pq))
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        _, weight, latent, gates, down, up, p, *pq = ctx.saved_tensors
        needed, dtype, count = ctx.needs_input_grad, ctx.dtype, len(pq) // 2
        to_mixed = (_in(grad, dtype) @ _in(up, dtype)).mul_(ctx.scale)
        to_logit = None
        to_pq: list[Tensor | None] = [None] * len(pq)
        if latent is not None:
            to_p, to_q = to_mixed.t() @ latent, to_mixed.sum(0)
            for index, (own, total) in enumerate(zip(pq, [to_p] * count + [to_q] * count, strict=True)):
                if needed[7 + index]:
                    to_pq[index] = _in(total if gates is None else total * _weight(gates, index % count), own.dtype)
            if needed[3]:
                if gates.dim():  # the size of one slot
                    to_logit = (to_p * pq[0]).sum() + (to_q * pq[1]).sum()
                else:
                    more = torch.dot(to_p.view(-1), _in(pq[1] - pq[0], dtype).view(-1))
                    more += torch.dot(to_q, _in(pq[3] - pq[2], dtype))
                    to_logit = _in(more * gates * (1 - gates), gates.dtype)
        to_rows, to_inputs = _input_gradients(ctx, grad, weight, to_mixed @ p, (down,))
        return to_rows, to_inputs, grad if needed[2] else None, to_logit, None, None, None, *to_pq


def _lora(call: Call, downs: Sequence[Tensor], ups: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the result, the latent (N, S r) and the slots' weights, (S,) or (N, S)."""
    out, latent = _enter(call, _joined(downs, 0, call.dtype))
    gates = call.gates if call.logit is None else slot_weights(call.logit, len(downs))
    return _leave(call, out, _weighted(latent, gates), _joined(ups, 1, call.dtype)), latent, gates


def _colora(
    call: Call, down: Tensor, up: Tensor, ps: Sequence[Tensor], qs: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Return the result, the latent A x (N, r), the slots' weights (S,) or a gate's g (), and the mixed P."""
    out, latent = _enter(call, _in(down, call.dtype))
    gates = _shared_weights(call, len(ps))
    p, q = _in(_total(ps, gates), call.dtype), _in(_total(qs, gates), call.dtype)
    return _leave(call, out, torch.addmm(q, latent, p.t()), _in(up, call.dtype)), latent, gates, p


def _shared_weights(call: Call, slots: int) -> Tensor | None:
    """Return the weights (S,) that all rows share; of a gate that mixes two slots its g (), which takes fewer steps."""
    if call.logit is None:
        return call.gates
    return torch.sigmoid(call.logit) if slots == 2 else slot_weights(call.logit, slots)


def _colora_by_row(call: Call, down: Tensor, up: Tensor, ps: Sequence[Tensor], qs: Sequence[Tensor]) -> Tensor:
    """Co-LoRA with weights that differ between rows: they cannot be folded into P and Q, so mix what these give."""
    gates = call.gates if call.logit is None else slot_weights(call.logit, len(ps))
    assert gates is not None
    out, latent = _enter(call, _in(down, call.dtype))
    results = F.linear(latent, _joined(ps, 0, call.dtype), _joined(qs, 0, call.dtype))
    mixed = _weighted(results, gates).view(latent.shape[0], len(ps), latent.shape[1]).sum(1)
    return torch.addmm(_in(out, call.dtype), mixed, _in(up, call.dtype).t(), alpha=call.scale).to(out.dtype)


def _enter(call: Call, down: Tensor) -> tuple[Tensor, Tensor]:
    """Return the base's output and the latent."""
    out = F.linear(call.rows, call.weight, call.bias) if call.weight is not None else call.out
    assert out is not None
    return out, _in(call.rows if call.inputs is None else call.inputs, call.dtype) @ down.t()


def _leave(call: Call, out: Tensor, mixed: Tensor, up: Tensor) -> Tensor:
    """Return ``out + scale * mixed @ up^T``; an output computed here belongs to nobody else and is overwritten."""
    if out.dtype != call.dtype:
        return torch.addmm(out.to(call.dtype), mixed, up.t(), alpha=call.scale).to(out.dtype)
    if call.weight is None:
        return torch.addmm(out, mixed, up.t(), alpha=call.scale)
    return out.addmm_(mixed, up.t(), alpha=call.scale)


def _remember(
    ctx: Any, call: Call, latent: Tensor | None, gates: Tensor | None, keep: bool, tensors: Sequence[Tensor]
) -> None:
    source = call.rows if call.inputs is None else call.inputs
    ctx.save_for_backward(source if keep else None, call.weight, latent, gates, *tensors)
    ctx.scale, ctx.dtype, ctx.joint, ctx.dtype_of_rows = call.scale, call.dtype, call.inputs is None, call.rows.dtype


def _input_gradients(
    ctx: Any, grad: Tensor, weight: Tensor | None, to_latent: Tensor, downs: Sequence[Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of ``rows`` and of ``inputs``."""
    through_base = through_branches = None
    if ctx.needs_input_grad[0] and weight is not None:
        through_base = grad @ _in(weight, grad.dtype)
    if ctx.needs_input_grad[0 if ctx.joint else 1]:
        down = _joined(downs, 0, ctx.dtype)
        if ctx.joint and through_base is not None:  # one buffer for both ways
            return _in(_in(through_base, ctx.dtype).addmm_(to_latent, down), ctx.dtype_of_rows), None
        through_branches = _in(to_latent @ down, ctx.dtype_of_rows)
    if ctx.joint:
        return through_branches, None
    return None if through_base is None else _in(through_base, ctx.dtype_of_rows), through_branches


def _logit_gradient(to_gates: Tensor, gates: Tensor) -> Tensor:
    if gates.shape[-1] == 1:
        return to_gates[..., 0]
    return (to_gates[..., 1] - to_gates[..., 0]) * gates.prod(-1)


def _weighted(latent: Tensor, gates: Tensor | None) -> Tensor:
    """Return the latent (N, S r) with each slot's part multiplied by its weight, (S,) or (N, S)."""
    if gates is None:
        return latent
    slots = gates.shape[-1]
    by_slot = latent.view(latent.shape[0], slots, latent.shape[1] // slots)
    return (by_slot * _in(gates, latent.dtype).unsqueeze(-1)).view_as(latent)


def _total(tensors: Sequence[Tensor], gates: Tensor | None) -> Tensor:
    """Return the sum over slots, weighted if there are weights (S,), or mixed by a gate's g ()."""
    if gates is not None:
        if not gates.dim():
            return torch.lerp(tensors[0], tensors[1], gates)
        tensors = [tensor * weight for tensor, weight in zip(tensors, gates.unbind(), strict=True)]
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _weight(gates: Tensor, slot: int) -> Tensor:
    """Return one slot's weight of (S,), or of a gate's g ()."""
    if gates.dim():
        return gates[slot]
    return gates if slot else 1 - gates


def _joined(tensors: Sequence[Tensor], dim: int, dtype: torch.dtype) -> Tensor:
    return _in(tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim), dtype)


def _in(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor in this dtype (asking first is several times faster than ``Tensor.to``)."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)
