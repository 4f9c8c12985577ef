"""Activations of a frozen model's linears: their inputs, their outputs, and the answer's gradients at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.data.sample import Sample
from fedmosaic.models import BaseModel, Batch

INPUTS, OUTPUTS, GRADIENTS = "inputs", "outputs", "gradients"

Activations = dict[str, dict[str, Tensor]]
"""By module name: inputs, outputs or gradients, (B, T, width)."""


@dataclass(frozen=True)
class View:
    """One architecture, a view in the sense of multi-view analysis (CCA).

    Attributes:
        model: without an adapter; no weight of it gets a gradient.
        linears: its Co-LoRA modules by their common names ``block.{k}.{module}``.
        first_tokens: of options, by their text; filled as they are met.
    """

    model: BaseModel
    linears: Mapping[str, nn.Module]
    first_tokens: dict[str, int] = field(default_factory=dict)

    def first_token(self, option: str) -> int:
        """Return the first token of an option.

        Args:
            option: its text.

        Returns:
            The token's id.
        """
        if option not in self.first_tokens:
            self.first_tokens[option] = self.model.answer_tokens(option)[0]
        return self.first_tokens[option]


def collect_activations(
    view: View, names: Collection[str], batch: Batch, samples: Sequence[Sample], *, quantities: Collection[str]
) -> Activations:
    """Run a batch and return the activations of some linears.

    Args:
        view: the model.
        names: which of its linears; those that it lacks are left out.
        batch: the samples, with answers.
        samples: the batch's samples, one for each row.
        quantities: any of ``inputs``, ``outputs`` and ``gradients``: the derivative of minus :func:`answer_margin`,
            summed over the batch, with respect to a module's output. A sample's margin does not depend on the others'
            positions, so these are each sample's own, and 0 at padding.

    Returns:
        By module name: the quantities that were asked for, each (B, T, width) in float32.
    """
    linears = {name: view.linears[name] for name in names if name in view.linears}
    rows = batch.input_ids.shape

    def by_position(tensor: Tensor) -> Tensor:
        return tensor.detach().float().reshape(*rows, -1)  # some layers read all positions of a batch as one list (OPT)

    features: Activations = {name: {} for name in linears}
    perturbations: dict[str, Tensor] = {}
    with_gradients = GRADIENTS in quantities

    def hook_for(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if INPUTS in quantities:
                features[name][INPUTS] = by_position(inputs[0])
            if OUTPUTS in quantities:
                features[name][OUTPUTS] = by_position(output)
            if not with_gradients:
                return None
            # A zero that is added to the output: its gradient is the output's, though all weights are frozen.
            perturbations[name] = torch.zeros_like(output, requires_grad=True)
            return output + perturbations[name]

        return hook

    with _hooked({linears[name]: hook_for(name) for name in linears}), torch.set_grad_enabled(with_gradients):
        if not with_gradients:
            view.model.hidden_states(batch)
            return features
        loss = -answer_margin(view, batch, samples).sum()
        gradients = torch.autograd.grad(loss, list(perturbations.values()), allow_unused=True)
    for name, gradient in zip(perturbations, gradients, strict=True):
        found = torch.zeros_like(perturbations[name]) if gradient is None else gradient
        features[name][GRADIENTS] = by_position(found)
    return features


def answer_margin(view: View, batch: Batch, samples: Sequence[Sample]) -> Tensor:
    """Return the margin of the right answer over the other options, (B,), in logits.

    This is the answer loss without its saturation: the loss of a question that one model answers well and another does
    not has hardly a gradient in the first; the margin treats both alike. Answers are compared by their first tokens;
    open questions with all tokens.

    Args:
        view: the model.
        batch: the samples as the model reads them, with answers.
        samples: the batch's samples, one for each row.

    Returns:
        (B,) logit of the answer's first token minus the mean logit of the other options' first tokens.
    """
    answers = view.model.answer_logits(batch)
    firsts = torch.searchsorted(answers.rows.contiguous(), torch.arange(len(samples), device=answers.rows.device))
    logits, right = answers.logits[firsts].float(), answers.targets[firsts]
    others = []
    for row, (sample, gold) in enumerate(zip(samples, right.tolist(), strict=True)):
        wrong = sorted({view.first_token(option) for option in sample.options or ()} - {gold})
        others.append(logits[row, wrong].mean() if wrong else logits[row].mean())
    return logits.gather(1, right[:, None])[:, 0] - torch.stack(others)


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
