"""Loading a transformers checkpoint from its folder; every fault of its files is an error of one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from fedmosaic.data.images import ImageSource
from fedmosaic.errors import ModelError
from fedmosaic.models import vision
from fedmosaic.models.base import auto_class, find_decoder
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.models.device import check_dtype
from fedmosaic.models.files import check_files, check_fit, read_table
from fedmosaic.models.fingerprint import architecture_name
from fedmosaic.models.library_errors import model_errors
from fedmosaic.models.processors import read_processor
from fedmosaic.models.quantised import quantised
from fedmosaic.models.stack import layer_list

AUTO = "auto"
"""The dtype that the checkpoint is stored in; the attention that transformers chooses."""

UNQUANTISED = "none"
"""Weights as they are stored."""


def load_checkpoint(
    name: str,
    folder: Path,
    *,
    images: ImageSource,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
    attention: str = AUTO,
    quantisation: str = UNQUANTISED,
) -> CheckpointModel:
    """Load a transformers checkpoint with safetensors weights and return the model.

    Args:
        name: how the user calls it.
        folder: the checkpoint.
        images: where the samples' images are.
        device: where the model computes.
        dtype: of its weights; ``auto`` for what the checkpoint is stored in.
        attention: as transformers calls its implementation; ``auto`` for its own choice.
        quantisation: ``none``, ``int8`` or ``nf4``.

    Raises:
        SettingsError: the device does not compute in this dtype, or the quantisation is not available.
        ModelError: files are missing, damaged, do not fit each other, or are of a type that cannot be used.
    """
    check_files(name, folder)
    config = read_config(name, folder)
    kind = auto_class(config)
    if kind is None:
        raise ModelError(
            f"base model {name!r} is a {config.model_type} ({type(config).__name__}), which transformers loads "
            "neither as a causal language model nor as one of images and text; use a decoder model: encoders, and "
            "encoder-decoders such as T5, are not supported"
        )
    processor = read_processor(name, folder, config) if kind is AutoModelForImageTextToText else None
    tokenizer = processor.tokenizer if processor else _tokenizer(name, folder)
    try:
        how = attention_of(attention) | quantised(quantisation, device)
        module = _module(folder, kind, dtype, **how)
        check_dtype(device, module.dtype)
        moved = module if "device_map" in how else module.to(device)
        model = CheckpointModel(name, moved, tokenizer, processor, images)
        # these change what an architecture's name is made of
        if dtype in (torch.float16, "float16") or quantisation != UNQUANTISED:
            model.architecture = architecture_name(_module(folder, kind, AUTO))
    except ModelError as error:
        raise ModelError(f"base model {name!r} cannot be used: {error}") from error
    return model


def read_config(name: str, folder: Path) -> PreTrainedConfig:
    """Return the configuration in ``config.json``.

    Args:
        name: how the user calls the model.
        folder: the checkpoint.

    Raises:
        ModelError: it is damaged, or of a type that transformers does not know.
    """
    own_code = "auto_map" in read_table(name, folder / "config.json")
    advice = (
        "code inside a checkpoint is never run here: use a model of a type that transformers has" if own_code else ""
    )
    vision.register()
    with model_errors(f"base model {name!r}: {folder / 'config.json'} cannot be used", advice=advice):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)  # type: ignore[no-any-return]


def attention_of(attention: str) -> dict[str, Any]:
    """Return what ``from_pretrained`` is told of the implementation of attention.

    Args:
        attention: its name; ``auto`` for transformers' own choice.
    """
    return {} if attention == AUTO else {"attn_implementation": attention}


def _module(folder: Path, kind: Any, dtype: torch.dtype | str, **how: Any) -> Any:
    advice = "config.json and the weights must be of one checkpoint"
    with model_errors(f"its weights in {folder} do not load", advice=advice), _without_reports():
        module, loaded = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are named below
            output_loading_info=True,
            **how,
        )
    decoder = find_decoder(module)
    check_fit(module, folder, loaded, layer_list(decoder)[1])
    return module


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep transformers from printing tables about weights that do not fit: :func:`check_fit` reports them."""
    before = logging.get_verbosity()
    logging.set_verbosity(40)  # errors only
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    with model_errors(
        f"base model {name!r}: its tokenizer in {folder} cannot be used", advice="expected is tokenizer.json"
    ):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tokenizer
