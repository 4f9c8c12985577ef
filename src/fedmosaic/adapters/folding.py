"""Answering with one product per linear: the slots in use, folded into the weights for as long as a block lasts.

    W' = W + scale * up @ down        bias' = bias + scale * offset

In a small model the branches of two slots cost half as much again as the base itself. It needs a second copy of the
adapted weights, and a float32 base: in bfloat16 the sum would round most of the adapter away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fedmosaic.adapters.adapter import Adapter
from fedmosaic.adapters.forward_context import SlotWeights
from fedmosaic.adapters.layer import AdaptedLinear, plain_weights


@contextmanager
def folded_in(adapter: Adapter, weights: SlotWeights) -> Iterator[None]:
    """Compute with the slots mixed as in :meth:`Adapter.mixed`, folded into the base weights where that is exact.

    It is exact up to float32 rounding for fixed weights and gates that ignore the input. Anything else (another
    gate, a base that is no plain float32 linear, dropout switched on) computes inside the block as it does outside.
    The mix must not be changed inside the block.

    Args:
        adapter: attached; a detached one changes nothing.
        weights: slot weights, as :meth:`Adapter.mix` takes them.
    """
    with adapter.mixed(weights):
        if not all(_foldable(adapted.linear) for adapted in adapter.linears()) or not adapter.attached:
            yield
            return
        try:
            for adapted in adapter.linears():
                adapted.put(_plain(adapted.linear))
            yield
        finally:
            for adapted in adapter.linears():
                adapted.put(adapted.linear)


def _foldable(linear: AdaptedLinear) -> bool:
    weight, context = plain_weights(linear.base)[0], linear.context
    if weight is None or weight.dtype != torch.float32 or linear.training or not context.active:
        return False
    return not context.gated or linear.gate is None or not linear.gate.by_input


@torch.no_grad()
def _plain(linear: AdaptedLinear) -> nn.Linear:
    """Return an ordinary linear that computes what the adapted one does."""
    (own, own_bias), branch = plain_weights(linear.base), linear.folded()
    assert own is not None  # else it is not foldable
    weight = own.double() + branch.change
    terms = [] if own_bias is None else [own_bias.double()]
    terms += [] if branch.offset is None else [branch.scale * branch.offset]
    with torch.device("meta"):
        plain = nn.Linear(own.shape[1], own.shape[0], bias=bool(terms))
    plain.weight = nn.Parameter(weight.to(own.dtype), requires_grad=False)
    if terms:
        plain.bias = nn.Parameter(sum(terms[1:], terms[0]).to(own.dtype), requires_grad=False)
    return plain
