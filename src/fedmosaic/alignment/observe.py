"""Reading what a frozen model's linears receive, what they return, and how the answer depends on what they return."""

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

Features = dict[str, dict[str, Tensor]]
"""What was read: module name -> inputs, outputs or gradients -> (B, T, width)."""


@dataclass(frozen=True)
class View:
    """One architecture as alignment sees it.

    Attributes:
        model: without an adapter; no weight of it gets a gradient.
        linears: its Co-LoRA modules by their common names ``block.{k}.{module}``.
        first_tokens: of options, by their text; filled as they are met.
    """

    model: BaseModel
    linears: Mapping[str, nn.Module]
    first_tokens: dict[str, int] = field(default_factory=dict)

    def first_token(self, option: str) -> int:
        """Return the first token of an option."""
        if option not in self.first_tokens:
            self.first_tokens[option] = self.model.answer_tokens(option)[0]
        return self.first_tokens[option]


def observe(
    view: View, names: Collection[str], batch: Batch, samples: Sequence[Sample], *, reads: Collection[str]
) -> Features:
    """Run a batch and read some linears.

    Args:
        view: the model.
        names: which of its linears; those that it lacks are left out.
        batch: the samples, with answers.
        samples: as many as the batch has rows.
        reads: any of ``inputs``, ``outputs`` and ``gradients``: the derivative of minus :func:`lead`, summed over the
            batch, with respect to a module's output. A sample's lead does not depend on the others' positions, so these
            are each sample's own, and 0 at padding.
    """
    linears = {name: view.linears[name] for name in names if name in view.linears}
    features: Features = {name: {} for name in linears}
    pushes: dict[str, Tensor] = {}
    with_gradients = GRADIENTS in reads

    def look(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if INPUTS in reads:
                features[name][INPUTS] = inputs[0].detach().float()
            if OUTPUTS in reads:
                features[name][OUTPUTS] = output.detach().float()
            if not with_gradients:
                return None
            # A zero that is added to the output: its gradient is the output's, though all weights are frozen.
            pushes[name] = torch.zeros_like(output, requires_grad=True)
            return output + pushes[name]

        return hook

    with _hooked({linears[name]: look(name) for name in linears}), torch.set_grad_enabled(with_gradients):
        if not with_gradients:
            view.model.hidden_states(batch)
            return features
        loss = -lead(view, batch, samples).sum()
        gradients = torch.autograd.grad(loss, list(pushes.values()), allow_unused=True)
    for name, gradient in zip(pushes, gradients, strict=True):
        features[name][GRADIENTS] = torch.zeros_like(pushes[name]) if gradient is None else gradient.float()
    return features


def lead(view: View, batch: Batch, samples: Sequence[Sample]) -> Tensor:
    """Return by how much the right answer leads over the other options, (B,), in logits.

    This is the answer loss without its saturation: the loss of a question that one model answers well and another does
    not has hardly a gradient in the first; the lead asks both the same. Answers are compared by their first tokens;
    open questions with all tokens.
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
