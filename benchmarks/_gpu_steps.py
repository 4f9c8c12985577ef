"""One step of our adapters beside PEFT's single LoRA on a card: wall time, in turns, and peak memory."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from _card import in_turn, peak_memory
from test_adapter_speed import COLORA, DUAL, ONE, PEFT, SINGLE, TWO, _ours, _peft
from transformers import LlamaConfig, LlamaForCausalLM


def steps(device: torch.device, small: bool) -> dict[str, Any]:
    """Milliseconds of a step, ratio to PEFT's, and peak memory of each variant."""
    width, layers, batch, length, rank = (64, 2, 2, 16, 4) if small else (2048, 4, 8, 512, 16)
    dtype = torch.bfloat16
    config = LlamaConfig(
        vocab_size=600, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=max(2, width // 128), num_key_value_heads=max(2, width // 128),
    )  # fmt: skip

    def base() -> LlamaForCausalLM:
        torch.manual_seed(0)
        return LlamaForCausalLM(config).to(device, dtype).requires_grad_(False)

    models = {
        PEFT: _peft(base(), rank),
        SINGLE: _ours(base(), rank, slots=ONE, blocks=0),
        DUAL: _ours(base(), rank, slots=TWO, blocks=0),
        COLORA: _ours(base(), rank, slots=TWO, blocks=layers),
    }
    ids = torch.randint(0, 600, (batch, length), device=device)

    def step_of(model: torch.nn.Module) -> Callable[[], object]:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert all(parameter.dtype == torch.float32 for parameter in trained)  # of both
        optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)

        def step() -> None:
            with torch.autocast(device.type, dtype=dtype):
                loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()

        return step

    calls = {name: step_of(model) for name, model in models.items()}
    times = in_turn(calls, device, repeats=3 if small else 30)
    return {
        "shape": {"width": width, "layers": layers, "tokens": batch * length, "rank": rank, "dtype": "bfloat16"},
        "milliseconds": {name: 1e3 * median(values) for name, values in times.items()},
        "ratio": {
            name: median(a / b for a, b in zip(values, times[PEFT], strict=True)) for name, values in times.items()
        },
        "peak_bytes": {name: peak_memory(call, device) for name, call in calls.items()},
    }
