"""Base models made of the weights inside a pip package; converted once, and kept in the cache folder.

Of each family there are two: the language model as it is, and the vision-language model that the embedded tower and a
delta (:mod:`fedmosaic.models.delta`) make of it.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from filelock import FileLock
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration, PreTrainedModel, PreTrainedTokenizerFast

from fedmosaic import checksum, events
from fedmosaic.errors import ModelError, RunError
from fedmosaic.io import folder_written_atomically, save_tensors
from fedmosaic.models.base import freeze
from fedmosaic.models.delta import Delta, weights_sha256
from fedmosaic.models.families import llava_config
from fedmosaic.models.files import WEIGHTS
from fedmosaic.models.special_tokens import IMAGE
from fedmosaic.models.vision_weights import ASSETS
from fedmosaic.models.weight_package import WeightPackage, read_gguf

DELTA = "delta.safetensors"
"""The file's name."""

_VERSION = 1
"""Raise it with any change of what is written: conversions of earlier versions are then made anew."""


class PackagedModel(ABC):
    """A base model whose weights are inside a pip package.

    Attributes:
        name: the model's name.
        package: its weights.
    """

    name: ClassVar[str]
    package: ClassVar[WeightPackage]

    @classmethod
    def check(cls) -> None:
        """Make sure that all is there; nothing is read.

        Raises:
            ModelError: something is missing; says what to install.
        """
        cls.package.paths(cls.name)

    @classmethod
    def prepared(cls, home: Path) -> Path:
        """Return the folder of the converted model, after converting it on first use (about a minute).

        Args:
            home: the cache folder.

        Raises:
            ModelError: the package is missing or has other weights, or what is added to them does not fit.
        """
        cls.check()
        kept = home / "base-models"
        kept.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(" ".join((str(_VERSION), *cls._made_of())).encode()).hexdigest()[:16]
        folder = kept / f"{cls.name}-{key}"
        with FileLock(kept / f"{cls.name}.lock"):
            if not _is_whole(folder):
                events.emit("note", text=f"base model {cls.name} is converted, once")
                with folder_written_atomically(folder) as new:
                    cls._make(home, new)
        return folder

    @classmethod
    @abstractmethod
    def _made_of(cls) -> tuple[str, ...]:
        """Return digests of everything that the conversion depends on."""

    @classmethod
    @abstractmethod
    def _make(cls, home: Path, folder: Path) -> None:
        """Write configuration, weights and tokenizer."""


class PackagedText(PackagedModel):
    """A language model as it is, with its own chat template: an ordinary checkpoint in bfloat16."""

    @classmethod
    def _made_of(cls) -> tuple[str, ...]:
        return (cls.package.sha256,)

    @classmethod
    def _make(cls, home: Path, folder: Path) -> None:
        with cls.package.whole(cls.name, folder) as path:
            module, tokenizer = read_gguf(cls.name, path)
        for setting in ("quantization_config", "_name_or_path"):
            module.config.__dict__.pop(setting, None)
        _write(module, tokenizer, folder, torch.bfloat16)


class PackagedVision(PackagedModel):
    """A vision-language model: the embedded tower, a projector, and a package's language model with its delta.

    Attributes:
        language_model: the package's.
        unused: a token that the language model has never met; it becomes the image mark.
    """

    language_model: ClassVar[type[PackagedText]]
    unused: ClassVar[str]

    @classmethod
    def delta_file(cls) -> Path:
        """Return where the delta is."""
        return ASSETS / cls.name / DELTA

    @classmethod
    def check(cls) -> None:
        """Make sure that package and delta are there. See :meth:`PackagedModel.check`."""
        super().check()
        if not cls.delta_file().is_file():
            raise ModelError(
                f"base model {cls.name!r} needs {cls.delta_file()}, which makes a vision-language model of the "
                f"package's; make it: python -m fedmosaic.pretraining.vision_language --model {cls.name} --home CACHE "
                f"--out {cls.delta_file().parent}"
            )

    @classmethod
    def _made_of(cls) -> tuple[str, ...]:
        return (cls.package.sha256, hashlib.sha256(cls.delta_file().read_bytes()).hexdigest())

    @classmethod
    def _make(cls, home: Path, folder: Path) -> None:
        delta = Delta.load(cls.name, cls.delta_file())
        if delta.package != cls.package.sha256:
            raise ModelError(
                f"base model {cls.name!r}: {cls.delta_file()} was made for weights with sha256 {delta.package}, "
                f"expected {cls.package.sha256}; install fedmosaic again"
            )
        module, tokenizer = cls.changed(delta, home)
        found = _write(module, tokenizer, folder, torch.float16)
        if found != delta.result:
            raise ModelError(
                f"base model {cls.name!r}: the converted weights have sha256 {found}, expected {delta.result}: another "
                "release of transformers or gguf reads the package differently; install those in constraints.txt"
            )

    @classmethod
    def changed(cls, delta: Delta, home: Path) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerFast]:
        """Return the model, without tower, and its tokenizer.

        Args:
            delta: what is added to the language model.
            home: the cache folder.

        Raises:
            ModelError: it does not fit, or the package is missing or has other weights.
        """
        module, tokenizer = cls.unchanged(home)
        delta.apply(cls.name, module.model.language_model, module.model.multi_modal_projector)
        return module, tokenizer

    @classmethod
    def unchanged(cls, home: Path) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerFast]:
        """Return the language model with a projector of zeros and without tower, float32, and its tokenizer.

        Args:
            home: the cache folder.

        Raises:
            ModelError: the package is missing or has other weights.
        """
        folder = cls.language_model.prepared(home)
        tokenizer = with_image_mark(PreTrainedTokenizerFast.from_pretrained(folder), cls.unused)
        language_model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        language_model.config.pad_token_id = tokenizer.pad_token_id
        language_model.config.use_cache = False
        return seeing(language_model, tokenizer.get_vocab()[IMAGE]), tokenizer


def with_image_mark(tokenizer: PreTrainedTokenizerFast, token: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer in which the image mark has the place of another token; a space before it belongs to it.

    Args:
        tokenizer: of the language model.
        token: the other one.

    Raises:
        ModelError: there is no such token.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    if token not in vocabulary:
        raise ModelError(
            f"the tokenizer has no token {token!r} to take the place of; install the package's pinned release"
        )
    place = vocabulary[token]
    state["model"]["vocab"] = {IMAGE if key == token else key: value for key, value in vocabulary.items()}
    others = [each for each in state["added_tokens"] if each["id"] != place]
    mark = {"id": place, "content": IMAGE, "single_word": False, "lstrip": True, "rstrip": False}
    state["added_tokens"] = sorted(
        [*others, {**mark, "normalized": False, "special": True}], key=lambda each: each["id"]
    )
    special: dict[str, Any] = {
        name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)
    }
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        **special,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def seeing(language_model: Any, image_token: int) -> LlavaForConditionalGeneration:
    """Return a vision-language model without tower around a language model, whose weights it shares.

    It is frozen, and its projector gives zeros.

    Args:
        language_model: for causal language modelling; float32.
        image_token: id of the image mark's token.
    """
    with torch.device("meta"):
        module: Any = LlavaForConditionalGeneration(llava_config(language_model.config, image_token))
    module.model.language_model, module.lm_head = language_model.base_model, language_model.lm_head
    for parameter in module.model.multi_modal_projector.to_empty(device="cpu").parameters():
        nn.init.zeros_(parameter)
    module.model.vision_tower = nn.Identity()
    frozen: LlavaForConditionalGeneration = freeze(module)
    return frozen


def stored_weights(module: PreTrainedModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the weights that are kept of a model: without its tower, and tied ones once.

    Args:
        module: on the CPU.
        dtype: in which they are kept.
    """
    tied = module.all_tied_weights_keys
    state = module.state_dict()
    return {name: state[name].to(dtype) for name in state if "vision_tower" not in name and name not in tied}


def _write(module: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, dtype: torch.dtype) -> str:
    """Write a model without its tower, and return the sha256 of its weights."""
    state = stored_weights(module, dtype)
    save_tensors(folder / WEIGHTS, state, {"format": "pt"})
    config = module.config
    config.architectures, config.dtype = [type(module).__name__], dtype
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return weights_sha256(state)


def _is_whole(folder: Path) -> bool:
    try:
        checksum.check(folder / WEIGHTS, advice="")
    except RunError:
        return False
    return True
