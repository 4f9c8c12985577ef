"""A linear in the place of a bare parameter: Gemma 3's projector multiplies by one, which no adapter could go on."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

PARAMETER = "mm_input_projection_weight"
"""Name of the parameter in its projector."""
LINEAR = "mm_input_projection"
"""Name of the linear there."""


class ParameterLinear(nn.Module):
    """Multiplies by a parameter that stays its projector's: names, checkpoints and digests are as they were.

    Args:
        projector: holds the parameter, (in, out).

    Attributes:
        bias: none, and no checkpoint of the architecture can have one.
    """

    bias = None

    def __init__(self, projector: nn.Module) -> None:
        super().__init__()
        self._projector = [projector]  # in a list, so that it is no submodule
        self.in_features, self.out_features = self.weight.shape

    @property
    def projector(self) -> nn.Module:
        """Whose parameter it is."""
        return self._projector[0]

    @property
    def weight(self) -> nn.Parameter:
        """The parameter, (in, out)."""
        return cast(nn.Parameter, getattr(self.projector, PARAMETER))

    def stored(self) -> dict[str, Tensor]:
        """Return what a checkpoint has of the projector, by name in it: not an adapter that the linear may carry."""
        named = self.projector.named_parameters()
        return {name: each.detach() for name, each in named if not name.startswith(f"{LINEAR}.")}

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, (..., out).

        Args:
            x: (..., in).
        """
        return torch.matmul(x, self.weight)


class _EndsWithLinear:
    """What a projector with a linear computes: the same as before."""

    patches_per_image: int
    avg_pool: nn.Module
    mm_soft_emb_norm: nn.Module
    mm_input_projection: nn.Module

    def forward(self, vision_outputs: Tensor) -> Tensor:
        """Return the tokens (B, n, d) of the tower's states (B, patches, d_tower): pooled, normed, multiplied."""
        side = self.patches_per_image
        grid = vision_outputs.transpose(1, 2).reshape(len(vision_outputs), -1, side, side)
        pooled = self.avg_pool(grid.contiguous())
        normed = self.mm_soft_emb_norm(pooled.flatten(2).transpose(1, 2))
        return cast(Tensor, self.mm_input_projection(normed).type_as(vision_outputs))


def give_linear(module: nn.Module) -> None:
    """Let a model compute its bare projection with a linear; models that have none stay as they are.

    Args:
        module: is changed in place. It has no new parameters and computes the same.
    """
    for projector in list(module.modules()):
        if PARAMETER in projector._parameters and LINEAR not in projector._modules:
            kind = type(projector)
            projector.__class__ = type(kind.__name__, (_EndsWithLinear, kind), {})
            projector.add_module(LINEAR, ParameterLinear(projector))


def stored_name(path: str) -> str:
    """Return a parameter's name in the model.

    Args:
        path: of the linear.
    """
    return path.removesuffix(LINEAR) + PARAMETER
