"""A smaller Llama, of three layers."""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig

from fedmosaic.models.families import Family


class TinyLlamaSmall(Family):
    """Width 96, words as tokens."""

    name = "tiny-llama-small"
    tokenizer = "word"
    vocabulary = 2000
    seconds = 300

    @staticmethod
    def text_config(**shared: Any) -> LlamaConfig:
        """See :meth:`Family.text_config`."""
        return LlamaConfig(
            hidden_size=96,
            intermediate_size=288,
            num_hidden_layers=3,
            num_attention_heads=3,
            num_key_value_heads=3,
            **shared,
        )
