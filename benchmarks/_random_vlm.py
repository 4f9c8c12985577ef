"""A random vision-language model of the Llama kind in a folder, and samples that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

import fedmosaic as fm
from fedmosaic.pretraining.tokenizers import fit_tokenizer

COLOURS = ("red", "green", "blue", "white")
QUESTION = "<image> what color is this picture ? " + "look at it with care and then answer . " * 4


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the model."""

    width: int
    inner: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tower_width: int
    tower_layers: int
    image: int
    patch: int = 14


BILLION = Shape(
    width=2048, inner=8192, layers=16, heads=32, key_value_heads=8, vocabulary=32000, tower_width=768, tower_layers=12,
    image=224,
)  # fmt: skip
"""1.2 billion weights; an image is 256 tokens."""

SMALL = Shape(
    width=64, inner=96, layers=2, heads=4, key_value_heads=2, vocabulary=500, tower_width=32, tower_layers=2, image=28
)


def write_vlm(folder: Path, shape: Shape, device: torch.device, dtype: torch.dtype) -> int:
    """Write the checkpoint and return its number of weights."""
    corpus = [f"{QUESTION} {colour}" for colour in COLOURS] * 20
    tokenizer = fit_tokenizer("bpe", corpus, vocabulary=300, whole_words=COLOURS)
    vision = CLIPVisionConfig(
        hidden_size=shape.tower_width, intermediate_size=4 * shape.tower_width, num_hidden_layers=shape.tower_layers,
        num_attention_heads=max(2, shape.tower_width // 64), image_size=shape.image, patch_size=shape.patch,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.key_value_heads,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    tokens = (shape.image // shape.patch) ** 2
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=tokens,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            module = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    module.save_pretrained(folder)
    side = {"height": shape.image, "width": shape.image}
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": shape.image}, crop_size=side),
        tokenizer,
        patch_size=shape.patch,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return sum(parameter.numel() for parameter in module.parameters())


def pictures() -> dict[str, Image.Image]:
    """The samples' pictures by name."""
    return {colour: Image.new("RGB", (64, 64), colour) for colour in COLOURS}


def task(samples: int) -> fm.Task:
    """Questions of equal length, so that every batch has the same shape."""
    asked = tuple(
        fm.Sample(f"{i}", (COLOURS[i % 4],), QUESTION, COLOURS[i % 4], COLOURS) for i in range(max(4, samples))
    )
    return fm.Task("colours", "vqa", asked, asked[:2], asked[:2])
