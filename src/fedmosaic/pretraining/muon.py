"""Muon in fp32 (Jordan et al. 2024, kellerjordan.github.io/posts/muon), for pretraining the embedded models on a CPU.

    b <- mu b + (1 - mu) g                              momentum
    u <- NewtonSchulz5((1 - mu) g + mu b)               the nearest (semi-)orthogonal matrix to the Nesterov update
    w <- (1 - lr * decay) w - lr * 0.2 sqrt(max(m, n)) u

The factor 0.2 sqrt(max(m, n)) gives the step AdamW's size (Liu et al. 2025, arXiv 2502.16982). ``torch.optim.Muon``
iterates in bf16, which CPUs without bf16 units emulate: it is several times slower there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # the quintic iteration of the reference


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates, for matrices only. Matrices of one shape are handled as one stack.

    Args:
        parameters: matrices.
        lr: learning rate.
        momentum: decay of the averaged gradient, 0 to 1.
        weight_decay: decoupled; multiplied by the learning rate.
        iterations: of the orthogonalisation.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
        iterations: int = 5,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "iterations": iterations}
        super().__init__(list(parameters), defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            closure: not supported, must be None.
        """
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            stacks: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    stacks[parameter.shape].append(parameter)
            for parameters in stacks.values():
                self._update(parameters, group)

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        updates = []
        for parameter in parameters:
            assert parameter.grad is not None
            average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
            average.lerp_(parameter.grad, 1 - momentum)
            updates.append(parameter.grad.lerp(average, momentum))
        step = group["lr"] * 0.2 * max(parameters[0].shape) ** 0.5
        for parameter, update in zip(parameters, orthogonalise(torch.stack(updates), group["iterations"]), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=step)


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Return matrices (k, m, n) with all singular values moved close to 1 (between about 0.7 and 1.2).

    Args:
        matrices: (k, m, n).
        iterations: of Newton and Schulz's method.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
