"""A Llama of four layers."""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig

from fedmosaic.models.families import Family


class TinyLlama(Family):
    """Width 128, words as tokens."""

    name = "tiny-llama"
    tokenizer = "word"
    vocabulary = 2000
    seconds = 700

    @staticmethod
    def text_config(**shared: Any) -> LlamaConfig:
        """See :meth:`Family.text_config`."""
        return LlamaConfig(
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            **shared,
        )
