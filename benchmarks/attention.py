"""Which of transformers' attentions trains faster on a CPU, by precision and by the length of what is read.

    python benchmarks/attention.py --out results/attention.json

One pass forward and backward of a frozen decoder in the shape of SmolLM2-135M with random weights, eight texts a batch,
one thread: CPU seconds, in turns in one process, medians of the turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from _card import name_of
from transformers import LlamaConfig, LlamaModel

from fedmosaic.io import write_atomically

LENGTHS = (24, 64, 128, 256)
WAYS = ("sdpa", "eager")
BATCH = 8


def decoder(dtype: torch.dtype) -> LlamaModel:
    shape = LlamaConfig(
        vocab_size=64,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
    )
    torch.manual_seed(0)
    return LlamaModel(shape).to(dtype).requires_grad_(False)


def seconds(model: LlamaModel, way: str, length: int) -> float:
    model.set_attn_implementation(way)
    inputs = torch.randn(BATCH, length, model.config.hidden_size, dtype=model.dtype, requires_grad=True)
    began = time.process_time()
    model(inputs_embeds=inputs, use_cache=False).last_hidden_state.float().pow(2).mean().backward()
    return time.process_time() - began


def measured(dtype: torch.dtype, turns: int) -> dict[str, dict[str, float]]:
    """Length -> way -> seconds, and how many times as fast eager is."""
    model, found = decoder(dtype), {}
    for length in LENGTHS:
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(turns + 1):
            for way in WAYS:
                taken[way].append(seconds(model, way, length))
        row = {way: statistics.median(each[1:]) for way, each in taken.items()}
        found[str(length)] = {**row, "ratio": row["sdpa"] / row["eager"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        str(dtype).removeprefix("torch."): measured(dtype, arguments.turns) for dtype in (torch.float32, torch.bfloat16)
    }
    print("| tokens | " + " | ".join(f"{dtype} {way}" for dtype in found for way in (*WAYS, "ratio")) + " |")
    for length in map(str, LENGTHS):
        cells = [f"{rows[length][key]:.2f}" for rows in found.values() for key in (*WAYS, "ratio")]
        print(f"| {length} | " + " | ".join(cells) + " |")
    if arguments.out:
        table = {"device": name_of(torch.device("cpu")), "seconds": found}
        write_atomically(arguments.out, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
