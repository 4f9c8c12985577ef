"""The architectures that users bring, each as a small random checkpoint: one line for each text model."""

from __future__ import annotations

from typing import Any

import transformers as tf
from tests.models.checks import CHECKS
from tests.models.further_instances import FURTHER
from tests.models.making import SMALL, Instance
from tests.models.seeing_instances import EYES


def text(title: str, kind: str, **more: Any) -> Instance:
    """Return a text model's instance: a small configuration of one kind."""
    return Instance(title, lambda _: getattr(tf, f"{kind}Config")(**SMALL | more))


GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024}
TEXT = {
    "llama": text("Llama 3", "Llama", rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
    "qwen2": text("Qwen 2.5", "Qwen2"),
    "qwen3": text("Qwen 3", "Qwen3", head_dim=16),
    "gemma2": text("Gemma 2", "Gemma2", head_dim=16, sliding_window=64),
    "gemma3_text": text("Gemma 3 (text)", "Gemma3Text", head_dim=16, sliding_window=64),
    "mistral": text("Mistral", "Mistral"),
    "phi3": text("Phi 3", "Phi3"),
    "olmo2": text("OLMo 2", "Olmo2"),
    "gpt2": text("GPT-2", "GPT2", **GPT),
    "gpt_neox": text("GPT-NeoX", "GPTNeoX"),
    "opt": text("OPT", "OPT", ffn_dim=48, word_embed_proj_dim=32),
    "smollm3": text("SmolLM 3", "SmolLM3"),
    "lfm2": text("LFM2", "Lfm2", layer_types=["conv", "full_attention"], block_multiple_of=8),
    "t5": text("T5", "T5", d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2),
}
INSTANCES = {**EYES, **FURTHER, **TEXT}

LIMITS = {
    ("phi4_multimodal", "tower adapter"): r"no projector that a tower adapter fits.*adapter\.tower_rank=0",
    **{("t5", column): r"t5 \(T5Config\).*use a decoder model" for column in CHECKS},
}
"""What an instance does not do, and the error that says so."""
