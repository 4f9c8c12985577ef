"""Finding and loading base models: the embedded ones by name, any other from its folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from fedmosaic import events
from fedmosaic.data.images import ImageSource
from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.models.attention import check_attention
from fedmosaic.models.base import BaseModel, find_decoder
from fedmosaic.models.bounded_folder import BoundedFolder
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.models.device import check_dtype, check_single, taken, within_memory
from fedmosaic.models.end_tokens import complete_end_tokens
from fedmosaic.models.features import Features
from fedmosaic.models.files import WEIGHTS, check_fit, check_weights
from fedmosaic.models.fingerprint import architecture_name
from fedmosaic.models.library_errors import model_errors
from fedmosaic.models.read import AUTO, UNQUANTISED, attention_of, load_checkpoint, read_config
from fedmosaic.models.sizes import what_fits
from fedmosaic.models.stack import decoder_layers
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.tower_features import TowerFeatures
from fedmosaic.models.vision import VisionTowerConfig
from fedmosaic.models.vision_weights import ASSETS, load_tower
from fedmosaic.nearest import hint
from fedmosaic.registry import BASE_MODELS, FAMILIES, PACKAGED


def load_base_model(
    name: str,
    *,
    images: ImageSource,
    home: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
    attention: str = AUTO,
    quantisation: str = UNQUANTISED,
    feature_cache: float = 0.0,
) -> BaseModel:
    """Load a frozen base model and return it.

    Args:
        name: an embedded model (``tiny-llama``, ...), one from a package (``small-smollm2``, ...), or the folder of a
            transformers checkpoint.
        images: where the samples' images are.
        home: the cache folder (for the features of frozen towers).
        device: where the model computes; ``auto``: see :func:`~fedmosaic.models.device.taken`.
        dtype: of its weights, as torch's or by its name; ``auto`` for what the checkpoint is stored in.
        attention: as transformers calls its implementation; ``auto`` for its own choice.
        quantisation: of its weights: ``none``, ``int8`` or ``nf4``.
        feature_cache: GiB of disk for the features that unquantised checkpoints' towers give of pictures; 0: none.

    Raises:
        ModelError: there is no such model, or the folder cannot be used.
        SettingsError: there is no such device, it does not compute in this dtype, or the model cannot be quantised.
    """
    check_single(device)
    device = taken(device)
    check_attention(attention, device, dtype)
    folder = PACKAGED.load(name).prepared(home) if name in PACKAGED else find_base_model(name)
    config = read_config(name, folder)
    if isinstance(getattr(config, "vision_config", None), VisionTowerConfig):
        if quantisation != UNQUANTISED:
            raise SettingsError(
                f"model.quantisation={quantisation}: {name} is an embedded model, which is small; quantise checkpoints"
            )
        with within_memory(device, f"base model {name} is loaded"):
            return load_tiny(name, folder, images=images, home=home, device=device, dtype=dtype, attention=attention)
    with within_memory(device, f"base model {name} is loaded", partial(what_fits, folder, device)):
        model = load_checkpoint(
            name, folder, images=images, device=device, dtype=dtype, attention=attention, quantisation=quantisation
        )
    if feature_cache and quantisation == UNQUANTISED:
        _keep_features(model, BoundedFolder(home / "tower-features", int(feature_cache * 2**30)))
    return model


def _keep_features(model: CheckpointModel, folder: BoundedFolder) -> None:
    try:
        interface = model.interface
    except ModelError:  # its projector is of a kind that is not known here
        events.emit("note", text=f"base model {model.name}: features of its tower cannot be kept")
        return
    if interface is not None:
        model.features = TowerFeatures(model, interface, folder)


def find_base_model(name: str) -> Path:
    """Return the folder of a base model; of one from a package, that of what is added to the package's weights.

    Args:
        name: an embedded model, one from a package, or the folder of a transformers checkpoint.

    Raises:
        ModelError: there is no such model, which names the most similar; or its package is not installed.
    """
    if name in PACKAGED:
        PACKAGED.load(name).check()
        return ASSETS / name
    with model_errors(
        f"base model {name!r} cannot be opened"
    ):  # no such user behind ~, a name too long, no permission ...
        folder = FAMILIES.load(name).folder() if name in FAMILIES else Path(name).expanduser()
        if not (folder / "config.json").is_file():
            raise ModelError(_unknown(name, folder))
    return folder


def terms_of(name: str) -> tuple[Path, ...]:
    """Return the files that must go along with what is made of a base model, as far as it is known here.

    Args:
        name: as for :func:`find_base_model`; of a user's own checkpoint nothing is known.
    """
    terms: tuple[Path, ...] = PACKAGED.load(name).package.terms if name in PACKAGED else ()
    return terms


def load_tiny(
    name: str,
    folder: Path,
    *,
    images: ImageSource,
    home: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
    attention: str = AUTO,
) -> TinyModel:
    """Load an embedded model, or one of them that was saved with ``save_pretrained``, and return it.

    Args:
        name: how the user calls it.
        folder: config, weights (with or without the tower's) and tokenizer.
        images: where the samples' images are.
        home: the cache folder.
        device: where the model computes.
        dtype: of its projector and language model; ``auto`` is float32. The tower's features are the same for all.
        attention: as transformers calls its implementation; ``auto`` for its own choice.

    Raises:
        ModelError: weights are missing, damaged or do not fit the configuration.
    """
    with model_errors(f"base model {name!r}: its weights in {folder} do not load"):
        module: Any = read_module(folder, attention=attention)
    with model_errors(f"base model {name!r}: its tokenizer in {folder} cannot be used"):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        complete_end_tokens(tokenizer, module)
    architecture, tower = architecture_name(module), module.model.vision_tower
    check_dtype(device, _float(dtype))
    for part in (module.model.multi_modal_projector, module.model.language_model, module.lm_head):
        part.to(_float(dtype))
    module.to(device)
    model = TinyModel(name, module, tokenizer, Features(images, tower, home=home))
    model.architecture = architecture
    return model


def read_module(folder: Path, *, attention: str = AUTO) -> LlavaForConditionalGeneration:
    """Return the model in a folder in fp32; a tower that is not among the weights is attached from the package.

    Args:
        folder: ``config.json`` and ``model.safetensors``.
        attention: as transformers calls its implementation; ``auto`` for its own choice.

    Raises:
        ModelError: the weights are missing, damaged or do not fit.
    """
    weights = folder / WEIGHTS
    check_weights(folder.name, weights)
    with safe_open(weights, framework="pt") as file:
        complete = any("vision_tower" in key for key in file.keys())  # noqa: SIM118 - not a mapping
    if complete:
        return _whole(folder, attention)
    module = LlavaForConditionalGeneration(LlavaConfig.from_pretrained(folder, **attention_of(attention)))
    module.model.vision_tower = load_tower()
    state = {key: tensor.float() for key, tensor in load_file(weights).items()}
    missing, unexpected = module.load_state_dict(state, strict=False)
    missing = [key for key in missing if "vision_tower" not in key and key not in module.all_tied_weights_keys]
    if missing or unexpected:
        raise ModelError(f"{weights} does not fit config.json beside it: missing {missing}, unexpected {unexpected}")
    return module


def _whole(folder: Path, attention: str) -> LlavaForConditionalGeneration:
    loaded: Any = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True, **attention_of(attention)
    )
    module: LlavaForConditionalGeneration = loaded[0]
    check_fit(module, folder, loaded[1], decoder_layers(find_decoder(module)))
    return module


def save_without_tower(module: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write what :func:`read_module` reads: configuration, fp16 weights without the tower's, and the tokenizer.

    Args:
        module: the model.
        tokenizer: its tokenizer.
        folder: is made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tied = module.all_tied_weights_keys
    state = {
        key: tensor.detach().to("cpu", torch.float16).contiguous()
        for key, tensor in module.state_dict().items()
        if "vision_tower" not in key and key not in tied
    }
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    module.config.architectures = [type(module).__name__]
    module.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _float(dtype: torch.dtype | str) -> torch.dtype:
    """Return torch's dtype; an embedded model is stored in half precision to be small, and is a float32 model."""
    if isinstance(dtype, str):
        dtype = torch.float32 if dtype == AUTO else getattr(torch, dtype)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _unknown(name: str, folder: Path) -> str:
    found = (
        f"the folder {folder} has no config.json"
        if folder.is_dir()
        else "there is neither such a built-in model nor such a folder"
    )
    built_in = ", ".join(BASE_MODELS)
    return (
        f"unknown base model {name!r}: {found}; {hint(name, BASE_MODELS)}use a built-in name ({built_in}) "
        "or the folder of a transformers checkpoint (config.json, safetensors weights, tokenizer or processor files)"
    )
