"""Implementations of attention that need a library, a card and half precision."""

from __future__ import annotations

import torch

from fedmosaic.errors import SettingsError
from fedmosaic.models.libraries import installed

FLASH = "flash_attention_2"


def check_attention(attention: str, device: torch.device | str, dtype: torch.dtype | str) -> None:
    """Make sure that an implementation of attention can be used, before anything is loaded for it.

    Args:
        attention: as transformers calls it; all but flash attention is part of torch.
        device: where the model computes.
        dtype: of its weights, as torch's or by its name; ``auto`` where the checkpoint decides.

    Raises:
        SettingsError: it cannot.
    """
    if attention != FLASH:
        return
    name = str(dtype).removeprefix("torch.")
    lack = next(
        (
            lack
            for lack, there in {
                f"needs a CUDA device, and this is {device}": torch.device(device).type != "cuda",
                "needs the package flash-attn: pip install flash-attn": not installed("flash_attn"),
                f"computes in half precision only, and model.dtype is {name}": name == "float32",
            }.items()
            if there
        ),
        "",
    )
    if lack:
        raise SettingsError(
            f"model.attention={attention} {lack}; model.attention=sdpa gives the same everywhere, and torch takes its "
            "own flash kernels for it where it can"
        )
