"""Text-only data and unlike, random, tiny text models: what an own scenario without pictures looks like."""

import json

import tomli_w
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from fedmosaic.pretraining.tokenizers import fit_tokenizer

CAPITALS = {"france": "paris", "italy": "rome", "spain": "madrid", "poland": "warsaw", "greece": "athens"}
COLOURS = {"grass": "green", "snow": "white", "coal": "black", "blood": "red", "sky": "blue"}
QUESTIONS = {
    "Capitals": [(f"what is the capital of {key} ?", value) for key, value in CAPITALS.items()],
    "Colours": [
        (f"what color is {key} ? Choice list:[{', '.join(COLOURS.values())}]", value) for key, value in COLOURS.items()
    ],
}
SMALL = {
    "vocab_size": 400,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make_models(folder, *families):
    """Save models of some families; each has a width and a tokenizer of its own."""
    made = {
        "llama": ("bpe", lambda: LlamaForCausalLM(LlamaConfig(**SMALL, hidden_size=32))),
        "gemma": ("unigram", lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, hidden_size=40, head_dim=20))),
        # Its linears are fused: qkv_proj, o_proj, gate_up_proj and down_proj.
        "phi": ("word", lambda: Phi3ForCausalLM(Phi3Config(**SMALL, hidden_size=48))),
        # All its linears have names of their own.
        "neox": ("word", lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, hidden_size=32))),
    }
    corpus = [f"{question} {answer} options : answer :" for asked in QUESTIONS.values() for question, answer in asked]
    for seed, family in enumerate(families):
        kind, make = made[family]
        torch.manual_seed(seed)
        make().save_pretrained(folder / family)
        fit_tokenizer(kind, corpus * 20, vocabulary=300, whole_words=()).save_pretrained(folder / family)


def make_data(folder):
    """Write one task of open questions and one of multiple choice in the published layout."""
    for name, asked in QUESTIONS.items():
        records = [{"conversations": [{"value": question}, {"value": answer}]} for question, answer in asked]
        for split in ("train", "test"):
            path = folder / "dataset" / name / split / "dataset-0.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(records * 4))


def make_scenario(folder, *families):
    """Return a scenario file whose clients run these families on the two tasks in turn; no setting is given."""
    make_models(folder, *families)
    make_data(folder / "data")
    clients = [
        {"id": number, "model": str(folder / family), "tasks": [f"{('Capitals', 'Colours')[number % 2]}-0"]}
        for number, family in enumerate(families)
    ]
    path = folder / "text.toml"
    path.write_text(tomli_w.dumps({"benchmark": "published", "data": str(folder / "data"), "clients": clients}))
    return path
