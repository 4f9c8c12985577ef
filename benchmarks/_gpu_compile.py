"""What torch.compile, and CUDA graphs with it, bring for clients side by side: seconds, and how far results move."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from _card import in_turn, seconds, wait_for
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.adapters.cohort import CohortAdapter
from fedmosaic.models.base import Batch, find_decoder, freeze

CLIENTS = 4
SLOTS = (Slot("local", communicated=False), Slot("shared", communicated=True))
MIX = {"local": 0.5, "shared": 0.5}


def compiled(device: torch.device, small: bool) -> dict[str, Any]:
    """Milliseconds of a stacked step and of a stacked reading, as they are and compiled; ratios, largest differences.

    On a card "reduce-overhead" records CUDA graphs. The difference is relative to the largest number: of the gradients
    of a step, and of the hidden states that are read.
    """
    width, layers, rows, length = (64, 2, 2, 16) if small else (1024, 8, 8, 128)
    config = LlamaConfig(
        vocab_size=600, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=width // 32, num_key_value_heads=width // 32,
    )  # fmt: skip
    torch.manual_seed(0)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    module = freeze(LlamaForCausalLM(config)).to(device, dtype)
    adapter = Adapter.attach(
        module, find_decoder(module), slots=SLOTS, rank=16, alpha=32, blocks=2, seed=0, architecture="random"
    )
    members = [adapter.beside() for _ in range(CLIENTS)]
    for each in members:
        for parameter in each.parameters("local").values():
            parameter.data.add_(0.02 * torch.randn_like(parameter))
        each.train_only("local")
    ids = torch.randint(3, 600, (CLIENTS * rows, length), device=device)
    batch = Batch(ids, torch.ones_like(ids), ids)
    towards = torch.randn(*ids.shape, width, device=device)
    carrier = CohortAdapter(adapter)
    modes = {"default": {}, **({"reduce-overhead": {"mode": "reduce-overhead"}} if device.type == "cuda" else {})}
    found: dict[str, Any] = {"clients": CLIENTS, "tokens": ids.numel(), "width": width, "dtype": str(dtype)}
    holding = carrier.holding(members, instead=adapter, mix=MIX, draws=(), lengths=[length] * CLIENTS)
    half = torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
    with holding, carrier.reading(batch), half:
        models: dict[str, Callable[..., Any]] = {"as it is": module.model}
        for name, options in modes.items():
            models[name] = torch.compile(module.model, **options)

        def step(model: Callable[..., Any]) -> Tensor:
            hidden = model(input_ids=batch.input_ids, use_cache=False).last_hidden_state.float()
            (hidden * towards).mean().backward()
            carrier.hand_out()
            gradients = [each.grad for each in members[0].parameters("local").values() if each.grad is not None]
            return torch.cat([each.flatten().clone() for each in gradients])

        def read(model: Callable[..., Any]) -> Tensor:
            with torch.no_grad():
                hidden: Tensor = model(input_ids=batch.input_ids, use_cache=False).last_hidden_state
                return hidden.clone()

        for what, work in {"step": step, "reading": read}.items():
            found[what] = _compared(work, models, device, repeats=3 if small else 20)
    return found


def _compared(
    work: Callable[[Callable[..., Any]], Tensor],
    models: dict[str, Callable[..., Any]],
    device: torch.device,
    repeats: int,
) -> dict[str, Any]:
    expected, rows = work(models["as it is"]), dict[str, Any]()
    usable = {"as it is": models["as it is"]}
    for name, model in models.items():
        wait_for(device)
        start = time.process_time()
        try:
            first = seconds(lambda model=model: work(model), device)
            apart = float((work(model) - expected).abs().max() / expected.abs().max())
        except Exception as error:  # a compiler is missing, or cannot do it
            rows[name] = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
            continue
        rows[name] = {"first call (s)": first, "CPU time of two (s)": time.process_time() - start, "apart": apart}
        usable[name] = model
    times = _in_turn({name: lambda each=each: work(each) for name, each in usable.items()}, device, repeats)
    for name, values in times.items():
        rows[name]["milliseconds"] = 1e3 * median(values)
        rows[name]["ratio"] = median(a / b for a, b in zip(values, times["as it is"], strict=True))
    return rows


def _in_turn(calls: dict[str, Callable[[], Tensor]], device: torch.device, repeats: int) -> dict[str, list[float]]:
    """Return each call's seconds; on a CPU those of the process, which other load does not lengthen."""
    if device.type != "cpu":
        return in_turn(calls, device, repeats=repeats)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(10 * repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name].append(time.process_time() - start)
    return found
