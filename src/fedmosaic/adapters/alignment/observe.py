"""Reading what a frozen model's linears receive and return, and how the answer depends on what they return."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmosaic.models import BaseModel, Batch

INPUTS, OUTPUTS, GRADIENTS = "inputs", "outputs", "gradients"

Features = dict[str, dict[str, Tensor]]
"""What was read: module name -> inputs, outputs or gradients -> (rows, width)."""


def observe(
    model: BaseModel,
    linears: Mapping[str, nn.Module],
    batch: Batch,
    at: tuple[Tensor, Tensor],
    *,
    reads: Collection[str],
) -> Features:
    """Run a batch and read some linears at some positions.

    Args:
        model: without an adapter; no weight of it gets a gradient.
        linears: modules of the model by any names.
        batch: with answers if gradients are read.
        at: rows (n,) and columns (n,) of the positions in the batch.
        reads: any of ``inputs``, ``outputs`` and ``gradients``: the derivative of the summed answer loss of the batch
            (nats) with respect to a module's output. A sample's loss does not depend on the others' positions, so
            these are each sample's own.
    """
    features: Features = {name: {} for name in linears}
    at = (at[0].to(model.device), at[1].to(model.device))
    pushes: dict[str, Tensor] = {}
    with_gradients = GRADIENTS in reads

    def look(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if INPUTS in reads:
                features[name][INPUTS] = inputs[0].detach()[at].float()
            if OUTPUTS in reads:
                features[name][OUTPUTS] = output.detach()[at].float()
            if not with_gradients:
                return None
            # A zero that is added to the output: its gradient is the output's, though all weights are frozen.
            pushes[name] = torch.zeros_like(output, requires_grad=True)
            return output + pushes[name]

        return hook

    with _hooked({linears[name]: look(name) for name in linears}), torch.set_grad_enabled(with_gradients):
        if not with_gradients:
            model.hidden_states(batch)
            return features
        answers = model.answer_logits(batch)
        loss = F.cross_entropy(answers.logits.float(), answers.targets, reduction="sum")
        gradients = torch.autograd.grad(loss, list(pushes.values()), allow_unused=True)
    for name, gradient in zip(pushes, gradients, strict=True):
        full = torch.zeros_like(pushes[name]) if gradient is None else gradient
        features[name][GRADIENTS] = full[at].float()
    return features


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
