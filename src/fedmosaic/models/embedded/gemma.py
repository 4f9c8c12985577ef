"""A Gemma 3 of five layers."""

from __future__ import annotations

from typing import Any

from transformers import Gemma3TextConfig

from fedmosaic.models.families import Family


class TinyGemma(Family):
    """Width 112, pieces of a unigram model as tokens."""

    name = "tiny-gemma"
    tokenizer = "unigram"
    vocabulary = 600
    seconds = 700

    @staticmethod
    def text_config(**shared: Any) -> Gemma3TextConfig:
        """See :meth:`Family.text_config`."""
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
