"""A federation of objects: text questions and pictures, and unlike random models of two layers."""

import torch
from PIL import Image
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM

import fedmosaic as fm
from fedmosaic.pretraining.tokenizers import fit_tokenizer

CAPITALS = {"france": "paris", "italy": "rome", "spain": "madrid", "poland": "warsaw", "greece": "athens"}
COLOURS = {"grass": "green", "snow": "white", "coal": "black", "blood": "red", "sky": "blue"}
PAINTS = ("red", "green", "blue", "white", "black")
_SIZES = {
    "vocab_size": 400, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def capitals() -> fm.Task:
    asked = [(f"what is the capital of {key} ?", value) for key, value in CAPITALS.items()]
    samples = [fm.Sample(f"capital-{i}", (), question, answer) for i, (question, answer) in enumerate(asked)]
    return fm.Task("capitals", "facts", samples * 1, samples[:2], samples)


def colours() -> fm.Task:
    options = tuple(COLOURS.values())
    asked = [(f"what color is {key} ?", value) for key, value in COLOURS.items()]
    samples = [fm.Sample(f"colour-{i}", (), question, answer, options) for i, (question, answer) in enumerate(asked)]
    return fm.Task("colours", "facts", samples, samples[:2], samples)


def pictures() -> dict[str, Image.Image]:
    return {colour: Image.new("RGB", (40, 30), colour) for colour in PAINTS}


def paints(name: str = "paints") -> fm.Task:
    """Questions about pictures, for the embedded models."""
    samples = [fm.Sample(f"{name}-{c}", (c,), "<image> what color is this ? answer :", c, PAINTS) for c in PAINTS]
    return fm.Task(name, "vqa", samples, samples[:2], samples)


def text_model(family: str = "llama", seed: int = 0) -> fm.OwnModel:
    torch.manual_seed(seed)
    corpus = [f"what is the capital of {key} ? {value}" for key, value in CAPITALS.items()]
    corpus += [f"what color is {key} ? {value}" for key, value in COLOURS.items()]
    module = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**_SIZES, hidden_size=32)),
        "gemma": lambda: GemmaForCausalLM(GemmaConfig(**_SIZES, hidden_size=40, head_dim=20)),
    }[family]()
    return fm.OwnModel(module, fit_tokenizer("bpe", corpus * 20, vocabulary=300, whole_words=()))
