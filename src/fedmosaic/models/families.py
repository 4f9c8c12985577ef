"""The embedded models: small vision-language models of different families, one file each in ``models.embedded``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedConfig

from fedmosaic.models.special_tokens import BOS, EOS, IMAGE_ID, PAD, SPECIAL, TokenizerKind
from fedmosaic.models.vision import VisionTowerConfig
from fedmosaic.models.vision_weights import ASSETS


class Family(ABC):
    """One embedded model: a family, in one size. Its weights and its tokenizer are in ``models/assets/NAME``.

    Attributes:
        name: the built-in model's name.
        tokenizer: its kind.
        vocabulary: the size to which its tokenizer is fitted.
        seconds: CPU time of its pretraining.
    """

    name: ClassVar[str]
    tokenizer: ClassVar[TokenizerKind]
    vocabulary: ClassVar[int]
    seconds: ClassVar[float]

    @classmethod
    def folder(cls) -> Path:
        """Return the folder of configuration, weights and tokenizer; families of other packages override it."""
        return ASSETS / cls.name

    @staticmethod
    @abstractmethod
    def text_config(**shared: Any) -> PreTrainedConfig:
        """Return the language model's configuration.

        Args:
            shared: settings that all families share, e.g. ``vocab_size``.
        """


def build_module(family: type[Family], vocabulary: int, *, seed: int = 0) -> LlavaForConditionalGeneration:
    """Return the family's model with random weights (the vision tower's too).

    Args:
        family: one of :data:`fedmosaic.registry.FAMILIES`.
        vocabulary: number of tokens of its fitted tokenizer.
        seed: of the initialisation.
    """
    special = {f"{name}_token_id": SPECIAL.index(token) for name, token in (("pad", PAD), ("bos", BOS), ("eos", EOS))}
    text = family.text_config(
        vocab_size=vocabulary, max_position_embeddings=512, tie_word_embeddings=True, use_cache=False, **special
    )
    config = llava_config(text, IMAGE_ID)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(config)


def llava_config(text: PreTrainedConfig, image_token: int) -> LlavaConfig:
    """Return the configuration of a vision-language model with fedmosaic's tower.

    Args:
        text: the language model's.
        image_token: id of the image mark's token.
    """
    return LlavaConfig(
        vision_config=VisionTowerConfig(),
        text_config=text,
        image_token_index=image_token,
        image_seq_length=4,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
