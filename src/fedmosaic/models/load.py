"""Finding and loading base models: the embedded ones by name, any other from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from fedmosaic.data.images import ImageSource
from fedmosaic.errors import ModelError
from fedmosaic.models.base import BaseModel
from fedmosaic.models.checkpoint import load_checkpoint
from fedmosaic.models.families import FAMILIES
from fedmosaic.models.features import Features
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision import VisionTowerConfig
from fedmosaic.models.vision_weights import ASSETS, load_tower
from fedmosaic.nearest import hint


def load_base_model(
    name: str,
    *,
    images: ImageSource,
    home: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> BaseModel:
    """Load a frozen base model.

    Args:
        name: an embedded model (``tiny-llama``, ...), or the folder of a transformers checkpoint.
        images: where the samples' images are.
        home: the cache folder (features of the embedded models' frozen tower are kept there).
        device: where the model computes.
        dtype: of its weights.

    Raises:
        ModelError: there is no such model, or the folder cannot be used.
    """
    folder = find_base_model(name)
    config = _read_config(name, folder)
    if isinstance(getattr(config, "vision_config", None), VisionTowerConfig):
        return load_tiny(name, folder, images=images, home=home, device=device, dtype=dtype)
    return load_checkpoint(name, folder, images=images, device=device, dtype=dtype)


def find_base_model(name: str) -> Path:
    """Return the folder of a base model.

    Args:
        name: an embedded model, or the folder of a transformers checkpoint.

    Raises:
        ModelError: there is no such model; names the nearest.
    """
    folder = ASSETS / name if name in FAMILIES else Path(name).expanduser()
    if not (folder / "config.json").is_file():
        raise ModelError(_unknown(name, folder))
    return folder


def load_tiny(
    name: str,
    folder: Path,
    *,
    images: ImageSource,
    home: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TinyModel:
    """Load an embedded model, or one of them that was saved with ``save_pretrained``.

    Args:
        name: how it shall be called.
        folder: config, weights (with or without the tower's) and tokenizer.
        images: where the samples' images are.
        home: the cache folder.
        device: where the model computes.
        dtype: of its weights.

    Raises:
        ModelError: weights are missing, damaged or do not fit the configuration.
    """
    module: Any = read_module(folder)
    module.to(device=device, dtype=dtype)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return TinyModel(name, module, tokenizer, Features(images, module.model.vision_tower, home=home))


def read_module(folder: Path) -> LlavaForConditionalGeneration:
    """Return the model in a folder in fp32; a tower that is not among the weights is attached from the package.

    Args:
        folder: ``config.json`` and ``model.safetensors``.

    Raises:
        ModelError: the weights are missing, damaged or do not fit.
    """
    weights = folder / "model.safetensors"
    try:
        with safe_open(weights, framework="pt") as file:
            complete = any("vision_tower" in key for key in file.keys())  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{weights} cannot be read ({error}); install fedmosaic again or copy the folder again"
        ) from error
    if complete:
        return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    module = LlavaForConditionalGeneration(LlavaConfig.from_pretrained(folder))
    module.model.vision_tower = load_tower()
    state = {key: tensor.float() for key, tensor in load_file(weights).items()}
    missing, unexpected = module.load_state_dict(state, strict=False)
    missing = [key for key in missing if "vision_tower" not in key and key not in module.all_tied_weights_keys]
    if missing or unexpected:
        raise ModelError(f"{weights} does not fit config.json beside it: missing {missing}, unexpected {unexpected}")
    return module


def save_without_tower(module: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write what :func:`read_module` reads: configuration, fp16 weights without the tower's, and the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tied = module.all_tied_weights_keys
    state = {
        key: tensor.detach().to("cpu", torch.float16).contiguous()
        for key, tensor in module.state_dict().items()
        if "vision_tower" not in key and key not in tied
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    module.config.architectures = [type(module).__name__]
    module.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _read_config(name: str, folder: Path) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder)  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"base model {name!r}: {folder / 'config.json'} cannot be used: {error}") from error


def _unknown(name: str, folder: Path) -> str:
    found = (
        f"the folder {folder} has no config.json"
        if folder.is_dir()
        else "there is neither such a built-in model nor such a folder"
    )
    return (
        f"unknown base model {name!r}: {found}; {hint(name, FAMILIES)}use a built-in name ({', '.join(FAMILIES)}) "
        "or the folder of a transformers checkpoint (config.json, safetensors weights, tokenizer or processor files)"
    )
