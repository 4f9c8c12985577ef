"""Tiny random models of the families that adapters must fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers as tf
from torch import nn

LIKE_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}


def llama() -> nn.Module:
    return tf.LlamaForCausalLM(tf.LlamaConfig(**LIKE_LLAMA))


def wide_llama() -> nn.Module:
    return tf.LlamaForCausalLM(tf.LlamaConfig(**LIKE_LLAMA | {"hidden_size": 64, "num_hidden_layers": 6}))


def qwen2() -> nn.Module:
    return tf.Qwen2ForCausalLM(tf.Qwen2Config(**LIKE_LLAMA | {"hidden_size": 40, "num_hidden_layers": 6}))


def qwen3() -> nn.Module:
    return tf.Qwen3ForCausalLM(tf.Qwen3Config(**LIKE_LLAMA, head_dim=8))


def gemma3() -> nn.Module:
    return tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(**LIKE_LLAMA, head_dim=8))


def gpt_neox() -> nn.Module:
    config = tf.GPTNeoXConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, vocab_size=50
    )
    return tf.GPTNeoXForCausalLM(config)


def opt() -> nn.Module:
    config = tf.OPTConfig(
        hidden_size=32, ffn_dim=48, num_hidden_layers=4, num_attention_heads=4, vocab_size=50, word_embed_proj_dim=16
    )
    return tf.OPTForCausalLM(config)


def gpt2() -> nn.Module:
    return tf.GPT2LMHeadModel(tf.GPT2Config(n_embd=32, n_layer=4, n_head=4, vocab_size=50))


def mixtral() -> nn.Module:
    return tf.MixtralForCausalLM(tf.MixtralConfig(**LIKE_LLAMA, num_local_experts=4))


def t5() -> nn.Module:
    config = tf.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=4, num_decoder_layers=4, num_heads=4, vocab_size=50,
        decoder_start_token_id=0,
    )  # fmt: skip
    return tf.T5ForConditionalGeneration(config)


def llava() -> nn.Module:
    vision = tf.CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4, image_size=28, patch_size=14
    )
    return tf.LlavaForConditionalGeneration(
        tf.LlavaConfig(text_config=tf.LlamaConfig(**LIKE_LLAMA), vision_config=vision, image_token_index=49)
    )


def like_smolvlm(model: type[nn.Module], config: type) -> nn.Module:
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6, "num_attention_heads": 4,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    text = tf.LlamaConfig(**LIKE_LLAMA)
    return model(config(vision_config=vision, text_config=text, scale_factor=1, image_token_id=49, pad_token_id=0))


def idefics3() -> nn.Module:
    return like_smolvlm(tf.Idefics3ForConditionalGeneration, tf.Idefics3Config)


def smolvlm() -> nn.Module:
    return like_smolvlm(tf.SmolVLMForConditionalGeneration, tf.SmolVLMConfig)


def qwen2_5_vl() -> nn.Module:
    vision = {"depth": 6, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32}
    text = {**LIKE_LLAMA, "rope_scaling": {"rope_type": "default", "mrope_section": [1, 1, 2]}}
    return tf.Qwen2_5_VLForConditionalGeneration(tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision))


def qwen2_vl() -> nn.Module:
    vision = {"depth": 6, "embed_dim": 32, "hidden_size": 32, "num_heads": 4}
    text = {**LIKE_LLAMA, "rope_scaling": {"rope_type": "default", "mrope_section": [1, 1, 2]}}
    return tf.Qwen2VLForConditionalGeneration(tf.Qwen2VLConfig(text_config=text, vision_config=vision))


TEXT = (llama, wide_llama, qwen2, qwen3, gemma3, gpt_neox, opt, gpt2, mixtral, t5)
VISION = (llava, idefics3, smolvlm, qwen2_vl, qwen2_5_vl)
FAMILIES = {make.__name__: make for make in TEXT + VISION}


@pytest.fixture
def make_model() -> Callable[[str], nn.Module]:
    """Return a function that makes a tiny model by family, always the same, in eval mode."""

    def make(family: str) -> nn.Module:
        torch.manual_seed(0)
        return FAMILIES[family]().eval()

    return make


@pytest.fixture
def ids() -> torch.Tensor:
    """Two sequences of token ids, (2, 7)."""
    return torch.randint(0, 48, (2, 7), generator=torch.Generator().manual_seed(1))
