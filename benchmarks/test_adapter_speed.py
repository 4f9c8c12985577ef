"""Speed and memory of our adapters beside PEFT's single LoRA: one thread, CPU time, medians, all variants in turn.

    python benchmarks/test_adapter_speed.py                  # all sizes: results/adapter-speed.json, docs/adapters.md
    python benchmarks/test_adapter_speed.py --only 0         # one size, printed
    pytest benchmarks/test_adapter_speed.py                  # the targets at the tiny size

``step`` is forward, backward and AdamW of a Llama all of whose projections are adapted; ``forward`` is the model
without gradients; ``layer`` is one adapted linear alone, without gradients; ``peak`` is the most memory that one step
has allocated at once, and ``saved`` what autograd keeps for the backward pass. Each value is the median over rounds and
its ratio the median of the ratios to PEFT within a round, so that other load on the machine hits all variants alike.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.io import write_atomically

ROOT = Path(__file__).parent.parent
ONE = (Slot("local", communicated=False),)
TWO = (*ONE, Slot("personal_global", communicated=True))
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PEFT, SINGLE, DUAL, HALF, COLORA = "PEFT", "one slot", "two slots", "two slots, half Co-LoRA", "two slots, Co-LoRA"
TARGETS = {("step", DUAL): 1.10, ("step", COLORA): 1.00, ("layer", DUAL): 1.35, ("layer", SINGLE): 1.05}
Values = dict[str, dict[str, tuple[float, float]]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """One comparison."""

    width: int
    layers: int
    rank: int
    batch: int
    length: int = 64
    repeats: int


SIZES = (
    Size(width=128, layers=6, rank=16, batch=16, repeats=15),
    Size(width=128, layers=6, rank=16, batch=4, repeats=25),
    Size(width=1024, layers=2, rank=16, batch=4, repeats=9),
    Size(width=1024, layers=2, rank=128, batch=4, repeats=9),
    Size(width=2048, layers=2, rank=16, batch=2, repeats=7),
)


def _peft(model: nn.Module, rank: int) -> nn.Module:
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEARS))  # type: ignore[arg-type]


def _ours(model: nn.Module, rank: int, *, slots: tuple[Slot, ...], blocks: int) -> nn.Module:
    gate = "scalar" if len(slots) == 2 else "none"
    adapter = Adapter.attach(
        model, model, slots=slots, rank=rank, alpha=2 * rank, blocks=blocks, gate=gate, seed=0, architecture="llama"
    )
    adapter.train_only("local", gate=True)
    return model


def measure(size: Size) -> Values:
    """Return, for each variant, (value, ratio to PEFT) of step, forward and layer (ms), peak and saved (MB)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=600,
        hidden_size=size.width,
        intermediate_size=3 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    base = LlamaForCausalLM(config).requires_grad_(False)

    def fresh() -> nn.Module:
        """The model with the same frozen tensors, in modules of its own."""
        return copy.deepcopy(base, {id(tensor): tensor for tensor in base.parameters()})

    models = {
        PEFT: _peft(fresh(), size.rank),
        SINGLE: _ours(fresh(), size.rank, slots=ONE, blocks=0),
        DUAL: _ours(fresh(), size.rank, slots=TWO, blocks=0),
        HALF: _ours(fresh(), size.rank, slots=TWO, blocks=size.layers // 2),
        COLORA: _ours(fresh(), size.rank, slots=TWO, blocks=size.layers),
    }
    ids = torch.randint(0, 600, (size.batch, size.length))
    rows = torch.randn(size.batch, size.length, size.width)
    steps = {name: _step(model, ids) for name, model in models.items()}
    saved = {name: _saved_megabytes(models[name], step) for name, step in steps.items()}
    peaks = {name: _peak_megabytes(step) for name, step in steps.items()}
    calls = {
        "step": steps,
        "forward": {name: _forward(model, ids) for name, model in models.items()},
        "layer": {name: _repeated(_forward(_first_linear(model), rows), 20) for name, model in models.items()},
    }
    found: Values = {key: _in_turn(each, size.repeats) for key, each in calls.items()}
    for key, table in (("peak", peaks), ("saved", saved)):
        found[key] = {name: (value, value / table[PEFT]) for name, value in table.items()}
    return found


def _step(model: nn.Module, ids: Tensor) -> Callable[[], object]:
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, foreach=True)

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def _forward(module: nn.Module, inputs: Tensor) -> Callable[[], object]:
    return torch.no_grad()(lambda: module(inputs))


def _repeated(call: Callable[[], object], times: int) -> Callable[[], object]:
    def repeated() -> None:
        for _ in range(times):
            call()

    return repeated


def _first_linear(model: nn.Module) -> nn.Module:
    return next(module for name, module in model.named_modules() if name.endswith("layers.0.self_attn.q_proj"))


def _in_turn(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return median CPU milliseconds and median ratio; the calls take turns, so that other load hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(1e3 * (time.process_time() - start))
    return {
        name: (median(values[1:]), median(a / b for a, b in zip(values[1:], times[PEFT][1:], strict=True)))
        for name, values in times.items()
    }


def _peak_megabytes(step: Callable[[], object]) -> float:
    """Return the most that a step holds at once beyond what was there before it."""
    step()  # the optimiser's state is there before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events: list[Any] = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


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
    found = measure(SIZES[0])
    for (key, name), most in TARGETS.items():
        assert found[key][name][1] <= most, (key, name)


def table(results: list[dict[str, Any]]) -> str:
    """The ratios as a Markdown table; bold where a target is missed."""
    columns = [(key, name) for key in ("step", "layer", "peak") for name in (SINGLE, DUAL, COLORA)]
    lines = [
        "| width, rank, tokens | " + " | ".join(f"{key}: {name}" for key, name in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for result in results:
        size = Size(**result["size"])
        cells = []
        for key, name in columns:
            ratio = result["values"][key][name][1]
            cells.append(f"**{ratio:.2f}**" if ratio > TARGETS.get((key, name), 99) else f"{ratio:.2f}")
        lines.append(f"| {size.width}, {size.rank}, {size.batch * size.length} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(results: list[dict[str, Any]]) -> None:
    """Write the numbers and the page's table."""
    write_atomically(ROOT / "results" / "adapter-speed.json", json.dumps(results, indent=1) + "\n")
    page = ROOT / "docs" / "adapters.md"
    marks = r"(<!-- adapter speed: begin -->\n).*(<!-- adapter speed: end -->)"
    text = re.sub(marks, rf"\g<1>{table(results)}\n\g<2>", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    write_atomically(page, text)


def main() -> None:
    """Measure one size and print it, or all and write them, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, choices=range(len(SIZES)))
    parser.add_argument("--repeats", type=int, help="rounds of each size, instead of its own number")
    options = parser.parse_args()
    results = []
    for size in SIZES if options.only is None else [SIZES[options.only]]:
        chosen = replace(size, repeats=options.repeats or size.repeats)
        before = os.getloadavg()[0]
        values = measure(chosen)
        results.append({"size": asdict(chosen), "load": [before, os.getloadavg()[0]], "values": values})
        sys.stdout.write(f"{chosen}  load {before:.1f} to {os.getloadavg()[0]:.1f}\n")
        for name in values["step"]:
            cells = "   ".join(f"{key} {values[key][name][0]:8.2f} {values[key][name][1]:5.2f}" for key in values)
            sys.stdout.write(f"  {name:24s} {cells}\n")
        sys.stdout.flush()
        if options.only is None:
            write(results)


if __name__ == "__main__":
    main()
