"""Small models that read text alone, for federations without images: what they differ in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, PreTrainedConfig, PreTrainedModel

from fedmosaic.models.special_tokens import BOS, EOS, PAD, SPECIAL, TokenizerKind


@dataclass(frozen=True, slots=True)
class TextFamily:
    """One small text model.

    Attributes:
        config: returns its configuration, given what all share.
        tokenizer: its kind.
        vocabulary: the size to which its tokenizer is fitted.
    """

    config: Callable[..., PreTrainedConfig]
    tokenizer: TokenizerKind
    vocabulary: int


_LLAMA = partial(
    LlamaConfig,
    hidden_size=112,
    intermediate_size=336,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=4,
)
_GEMMA = partial(
    Gemma3TextConfig,
    hidden_size=96,
    intermediate_size=288,
    num_hidden_layers=5,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=24,
    query_pre_attn_scalar=24,
    sliding_window=512,
)
TEXT_FAMILIES = {"text-llama": TextFamily(_LLAMA, "bpe", 1400), "text-gemma": TextFamily(_GEMMA, "unigram", 1400)}


def build_text_module(family: TextFamily, vocabulary: int, *, seed: int = 0) -> PreTrainedModel:
    """Return the family's model with random weights.

    Args:
        family: which model.
        vocabulary: number of tokens of its fitted tokenizer.
        seed: of the initialisation.
    """
    special = {f"{name}_token_id": SPECIAL.index(token) for name, token in (("pad", PAD), ("bos", BOS), ("eos", EOS))}
    config = family.config(
        vocab_size=vocabulary, max_position_embeddings=512, tie_word_embeddings=True, use_cache=False, **special
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind: Any = AutoModelForCausalLM
        module: PreTrainedModel = kind.from_config(config)
    return module
