"""Answering with one product per linear: the slots in use, folded into the weights for as long as a block lasts.

    W' = W + scale * up @ down        bias' = bias + scale * offset

In a small model the branches of two slots cost half as much again as the base itself. It needs a second copy of the
adapted weights, and a float32 base: in bfloat16 the sum would round most of the adapter away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedmosaic.adapters.adapter import Adapter
from fedmosaic.adapters.forward_context import SlotWeights
from fedmosaic.adapters.layer import AdaptedLinear, plain_weights
from fedmosaic.errors import ModelError


class FoldedMix:
    """An adapter's linears with one mix of its slots folded into them: made once, put in place as often as is needed.

    They are exact up to float32 rounding for fixed weights and gates that ignore the input. Anything else (another
    gate, a base that is no plain float32 linear, dropout switched on) computes in place as it does otherwise.

    Args:
        adapter: attached; a detached one changes nothing. Its tensors count as they are now.
        weights: slot weights, as :meth:`Adapter.mix` takes them.
    """

    def __init__(self, adapter: Adapter, weights: SlotWeights) -> None:
        self._adapter = adapter
        self._weights = weights
        with adapter.mixed(weights):
            linears = list(adapter.linears())
            foldable = adapter.folds and adapter.attached and all(_foldable(each.linear) for each in linears)
            self._plain = [(each, _plain(each.linear)) for each in linears] if foldable else []

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Compute with the mix inside the block, in which it must not be changed, then as before."""
        plain = self._plain if self._adapter.attached else []
        with self._adapter.mixed(self._weights):
            try:
                for adapted, linear in plain:
                    adapted.put(linear)
                yield
            finally:
                for adapted, _ in plain:
                    adapted.put(adapted.linear)


@contextmanager
def folded_in(adapter: Adapter, weights: SlotWeights) -> Iterator[None]:
    """Compute with the slots mixed as in :meth:`Adapter.mixed`, folded into the base weights where that is exact.

    Args:
        adapter: as :class:`FoldedMix` takes it.
        weights: as :class:`FoldedMix` takes them. The mix must not be changed inside the block.
    """
    with FoldedMix(adapter, weights).in_place():
        yield


@contextmanager
def base_changed(adapter: Adapter, changes: Mapping[str, Tensor]) -> Iterator[None]:
    """Compute with updates of any rank added to the base weights inside the block; after it these are as before.

    Args:
        adapter: of the base model.
        changes: (out, in) each, by the name that the tensors of a linear begin with, e.g. ``layer.0.q_proj``; the
            adapter's scale alpha / r is applied here, as to ``B A``.

    Raises:
        ModelError: a base linear is not a plain one (quantised), so nothing can be added to its weight.
    """
    linears = {adapted.target.prefix: adapted.linear for adapted in adapter.linears()}
    saved: list[tuple[Tensor, Tensor]] = []
    try:
        adapter.on_changed_base = bool(changes)  # nobody else may compute with it now
        with torch.no_grad():
            for name, change in changes.items():
                weight = plain_weights(linears[name].base)[0]
                if weight is None:
                    raise ModelError(
                        f"{name} is a {type(linears[name].base).__name__} to whose weight nothing can be added; use a "
                        "base model of plain linears (not quantised), or a method that does not merge updates"
                    )
                saved.append((weight, weight.clone()))
                weight.copy_(weight.double() + linears[name].scale * change.to(weight.device).double())
        yield
    finally:
        adapter.on_changed_base = False
        with torch.no_grad():
            for weight, before in saved:
                weight.copy_(before)


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
