"""A Qwen2 of six layers."""

from __future__ import annotations

from typing import Any

from transformers import Qwen2Config

from fedmosaic.models.families import Family


class TinyQwen2(Family):
    """Width 160, byte pairs as tokens."""

    name = "tiny-qwen2"
    tokenizer = "bpe"
    vocabulary = 1000
    seconds = 1000

    @staticmethod
    def text_config(**shared: Any) -> Qwen2Config:
        """See :meth:`Family.text_config`."""
        return Qwen2Config(
            hidden_size=160,
            intermediate_size=448,
            num_hidden_layers=6,
            num_attention_heads=5,
            num_key_value_heads=5,
            **shared,
        )
