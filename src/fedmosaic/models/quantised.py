"""Quantised base models, by the libraries that transformers uses for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from transformers import BitsAndBytesConfig, QuantoConfig

from fedmosaic.errors import SettingsError
from fedmosaic.models.libraries import installed


class _Way(NamedTuple):
    """One way to quantise: the library, its name in package lists, what it is told, and the devices it needs."""

    library: str
    package: str
    config: Any
    options: Mapping[str, Any]
    cuda_only: bool


_WAYS = {
    "int8": _Way("optimum.quanto", "optimum-quanto", QuantoConfig, {"weights": "int8"}, cuda_only=False),
    "nf4": _Way(
        "bitsandbytes",
        "bitsandbytes",
        BitsAndBytesConfig,
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
        cuda_only=True,
    ),
}


def quantised(quantisation: str, device: torch.device | str) -> dict[str, Any]:
    """Return what ``from_pretrained`` is told to quantise a model on its way to a device; nothing for ``none``.

    Args:
        quantisation: ``none``, ``int8`` or ``nf4``.
        device: where the model computes.

    Raises:
        SettingsError: the library is not installed, or does not compute on this device.
    """
    way = _WAYS.get(quantisation)
    if way is None:
        return {}
    if way.cuda_only and torch.device(device).type != "cuda":
        raise SettingsError(
            f"model.quantisation={quantisation} needs a CUDA device, and this is {device}; "
            "int8 also computes on the CPU, bfloat16 (model.dtype) halves the weights of float32"
        )
    if not installed(way.library) or not installed("accelerate"):
        raise SettingsError(
            f"model.quantisation={quantisation} needs the packages {way.package} and accelerate: "
            f"pip install {way.package} accelerate"
        )
    return {"quantization_config": way.config(**way.options), "device_map": {"": str(device)}}
