"""The embedded models: three families that differ in architecture, width, depth and tokenizer, one in two sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    Qwen2Config,
)

from fedmosaic.models.special_tokens import BOS, EOS, IMAGE_ID, PAD, SPECIAL, TokenizerKind
from fedmosaic.models.vision import VisionTowerConfig


@dataclass(frozen=True, kw_only=True)
class Family:
    """One embedded model: a family, in one size.

    Attributes:
        name: the built-in model's name.
        text_config: makes the language model's configuration from the settings that all families share.
        tokenizer: its kind.
        vocabulary: the size to which its tokenizer is fitted.
        seconds: CPU time of its pretraining.
    """

    name: str
    text_config: Callable[..., PreTrainedConfig]
    tokenizer: TokenizerKind
    vocabulary: int
    seconds: float


def _llama(**shared: Any) -> PreTrainedConfig:
    return LlamaConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        **shared,
    )


def _small_llama(**shared: Any) -> PreTrainedConfig:
    return LlamaConfig(
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=3,
        **shared,
    )


def _qwen2(**shared: Any) -> PreTrainedConfig:
    return Qwen2Config(
        hidden_size=160,
        intermediate_size=448,
        num_hidden_layers=6,
        num_attention_heads=5,
        num_key_value_heads=5,
        **shared,
    )


def _gemma(**shared: Any) -> PreTrainedConfig:
    return Gemma3TextConfig(
        hidden_size=112,
        intermediate_size=336,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=28,
        query_pre_attn_scalar=28,
        sliding_window=512,
        **shared,
    )


FAMILIES = {
    family.name: family
    for family in (
        Family(name="tiny-llama", text_config=_llama, tokenizer="word", vocabulary=2000, seconds=700),
        Family(name="tiny-qwen2", text_config=_qwen2, tokenizer="bpe", vocabulary=1000, seconds=1000),
        Family(name="tiny-gemma", text_config=_gemma, tokenizer="unigram", vocabulary=600, seconds=700),
        Family(name="tiny-llama-small", text_config=_small_llama, tokenizer="word", vocabulary=2000, seconds=300),
    )
}


def build_module(family: Family, vocabulary: int, *, seed: int = 0) -> LlavaForConditionalGeneration:
    """Return the family's model with random weights (the vision tower's too).

    Args:
        family: one of :data:`FAMILIES`.
        vocabulary: number of tokens of its fitted tokenizer.
        seed: of the initialisation.
    """
    special = {f"{name}_token_id": SPECIAL.index(token) for name, token in (("pad", PAD), ("bos", BOS), ("eos", EOS))}
    text = family.text_config(
        vocab_size=vocabulary, max_position_embeddings=512, tie_word_embeddings=True, use_cache=False, **special
    )
    config = LlavaConfig(
        vision_config=VisionTowerConfig(),
        text_config=text,
        image_token_index=IMAGE_ID,
        image_seq_length=4,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(config)
