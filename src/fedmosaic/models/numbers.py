"""The check that a model answers by numbers: a comparison with NaN picks an answer, and nobody would notice."""

from __future__ import annotations

from torch import Tensor

from fedmosaic.errors import ModelError


def check_numbers(model: str, scores: Tensor) -> None:
    """Refuse scores of which one is NaN; an option that is impossible (minus infinity) is none.

    Args:
        model: its name.
        scores: of tokens or options, of any shape.

    Raises:
        ModelError: one is NaN.
    """
    if bool(scores.isnan().any()):
        raise ModelError(
            f"{model} scores answers with NaN: its training has diverged, or its dtype is too narrow; train it anew "
            "with a lower training.learning_rate, or compute in float32 or bfloat16"
        )
