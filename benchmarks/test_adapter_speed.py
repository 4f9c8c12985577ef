"""Speed and memory of our adapters beside PEFT's single LoRA: one thread, medians, all variants in turn.

    python benchmarks/test_adapter_speed.py --width 128 --layers 6 --rank 16 --batch 16 --repeats 15
    pytest benchmarks/test_adapter_speed.py          # the targets at the tiny size

``step`` is forward, backward and AdamW; ``forward`` is without gradients; ``saved`` is what autograd keeps for the
backward pass. The first column is CPU milliseconds (megabytes), the second the median ratio to PEFT in the same round.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from fedmosaic.adapters import Adapter, Slot

ONE = (Slot("local", travels=False),)
TWO = (*ONE, Slot("personal_global", travels=True))
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _peft(model: nn.Module, rank: int) -> nn.Module:
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEARS))  # type: ignore[arg-type]


def _ours(model: nn.Module, rank: int, *, slots: tuple[Slot, ...], blocks: int) -> nn.Module:
    gate = "scalar" if len(slots) == 2 else "none"
    adapter = Adapter.attach(
        model, model, slots=slots, rank=rank, alpha=2 * rank, blocks=blocks, gate=gate, seed=0, architecture="llama"
    )
    adapter.train_only("local", gate=True)
    return model


def measure(
    *, width: int, layers: int, rank: int, batch: int, length: int, repeats: int
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return, for each variant, (value, ratio to PEFT) of step, forward and saved tensors."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=600,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    base = LlamaForCausalLM(config).requires_grad_(False)
    ids = torch.randint(0, 600, (batch, length))
    models = {
        "PEFT": _peft(copy.deepcopy(base), rank),
        "one slot": _ours(copy.deepcopy(base), rank, slots=ONE, blocks=0),
        "two slots, gate": _ours(copy.deepcopy(base), rank, slots=TWO, blocks=0),
        "two slots, gate, half Co-LoRA": _ours(copy.deepcopy(base), rank, slots=TWO, blocks=layers // 2),
        "Co-LoRA, two slots, gate": _ours(copy.deepcopy(base), rank, slots=TWO, blocks=layers),
    }
    steps = {name: _step(model, ids) for name, model in models.items()}
    saved = {name: _saved_megabytes(models[name], step) for name, step in steps.items()}
    forwards = {name: _forward(model, ids) for name, model in models.items()}
    rows = {name: {"saved MB": (saved[name], saved[name] / saved["PEFT"])} for name in models}
    for key, calls in (("step ms", steps), ("forward ms", forwards)):
        for name, values in _in_turn(calls, repeats).items():
            rows[name][key] = values
    return rows


def _step(model: nn.Module, ids: Tensor) -> Callable[[], object]:
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, foreach=True)

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def _forward(model: nn.Module, ids: Tensor) -> Callable[[], object]:
    return torch.no_grad()(lambda: model(input_ids=ids))


def _in_turn(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return median CPU milliseconds and median ratio; the calls take turns, so that other load hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(1e3 * (time.process_time() - start))
    return {
        name: (median(values[1:]), median(a / b for a, b in zip(values[1:], times["PEFT"][1:], strict=True)))
        for name, values in times.items()
    }


def _saved_megabytes(model: nn.Module, step: Callable[[], object]) -> float:
    """Return what is kept beside the model's own tensors."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(storages.values()) / 1e6


def test_targets() -> None:
    """The targets of the adapter work at the tiny size."""
    rows = measure(width=128, layers=6, rank=16, batch=16, length=64, repeats=9)
    assert rows["two slots, gate"]["step ms"][1] <= 1.10
    assert rows["Co-LoRA, two slots, gate"]["step ms"][1] <= 1.00
    assert rows["two slots, gate"]["forward ms"][1] <= 1.35
    assert rows["one slot"]["forward ms"][1] <= 1.05


def main() -> None:
    """Print one row per variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"width": 128, "layers": 6, "rank": 16, "batch": 16, "length": 64, "repeats": 15}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    rows = measure(**vars(parser.parse_args()))
    for name, row in rows.items():
        cells = "   ".join(f"{key} {value:8.1f} {ratio:5.2f}" for key, (value, ratio) in row.items())
        sys.stdout.write(f"{name:30s} {cells}\n")


if __name__ == "__main__":
    main()
