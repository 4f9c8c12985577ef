"""AdamW over the open slots of one adapter, whose moments are kept between rounds; weights are not part of its state.

The published code restores an optimiser's own copy of the *weights* and so undoes every download
(docs/method-facts.md#optimiser-restore-undoes-the-download). Here an optimiser's state is its
moments and step counts alone: nothing in it can overwrite a download.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fedmosaic.config import TrainingSettings

Groups = Mapping[str, Mapping[str, nn.Parameter]]
"""Parameters by group (``lora``, ``colora``, ``gate``, ``tower``) and name."""

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class SlotOptimiser:
    """AdamW with one learning rate per parameter group.

    Args:
        groups: all parameters that may ever be trained.
        settings: learning rates, weight decay and the clipping norm.
    """

    def __init__(self, groups: Groups, settings: TrainingSettings) -> None:
        self._settings = settings
        self._named = {name: parameter for group in groups.values() for name, parameter in group.items()}
        rates = {
            "lora": settings.learning_rate,
            "colora": settings.colora_learning_rate,
            "gate": settings.gate_learning_rate,
            "tower": settings.tower_learning_rate,
        }
        self._adamw = torch.optim.AdamW(
            [
                {"params": list(group.values()), "lr": rates[kind], "initial_lr": rates[kind]}
                for kind, group in groups.items()
                if group
            ],
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def scale_rates(self, factor: float) -> None:
        """Set all learning rates to ``factor`` times those of the settings.

        Args:
            factor: not negative.
        """
        for group in self._adamw.param_groups:
            group["lr"] = factor * group["initial_lr"]

    def step(self, loss: Tensor) -> None:
        """Take one AdamW step; parameters without a gradient and their moments are unchanged.

        Args:
            loss: a scalar with a graph.
        """
        self.step_on_sum([loss])

    def step_on_sum(self, losses: Iterable[Tensor]) -> None:
        """Take one AdamW step on a sum whose terms are computed one by one, so that one graph lives at a time.

        Args:
            losses: scalars with graphs; each is asked for when the one before has gone.
        """
        self.clear()
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
        self.step_on_gradients()

    def clear(self) -> None:
        """Drop all gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def step_on_gradients(self) -> None:
        """Take one AdamW step on the gradients that parameters have, clipped together, and drop them."""
        if self._settings.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(self._with_gradient(), self._settings.max_grad_norm)
        self._adamw.step()
        self.clear()

    def moments(self) -> dict[str, Tensor]:
        """Return ``{"exp_avg/NAME": ..., "exp_avg_sq/NAME": ..., "step/NAME": ...}`` of all stepped parameters."""
        state = self._adamw.state
        return {
            f"{moment}/{name}": state[parameter][moment].detach().clone()
            for name, parameter in self._named.items()
            if parameter in state
            for moment in _MOMENTS
        }

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Restore moments; weights are unchanged.

        Args:
            moments: as :meth:`moments` returns them; copied.
        """
        self._adamw.state.clear()
        for name in {key.partition("/")[2] for key in moments}:
            parameter = self._named[name]
            self._adamw.state[parameter] = {
                moment: moments[f"{moment}/{name}"].to(parameter.device, copy=True) for moment in _MOMENTS
            }

    def _with_gradient(self) -> Iterable[nn.Parameter]:
        return [parameter for parameter in self._named.values() if parameter.grad is not None]
