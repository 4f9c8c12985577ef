"""Is every task of mosaic40 learnable and none saturated? Chance, zero-shot and local-only accuracy on each base model.

    python benchmarks/learnable.py --out results/learnable.json               # all tasks and models; minutes on 2 cores
    python benchmarks/learnable.py --out results/learnable.json --markdown    # the table of docs/benchmark.md

Local-only: one LoRA (rank 16, all projections), a task's default budget in mosaic40 (5 rounds x 25 steps, batch 8).
Chance is that of the best constant guess among the options, or 0 for open answers.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from fedmosaic.config import load_scenario, resolve
from fedmosaic.data.sample import Task
from fedmosaic.federation import Machine
from fedmosaic.federation.solo import train_alone

MODELS = ("tiny-llama", "tiny-qwen2", "tiny-gemma")
STEPS = 5 * 25


def machine() -> Machine:
    settings = resolve(load_scenario("mosaic40"), method="sft")
    torch.set_num_threads(settings.threads)
    return Machine(settings, Path("unused"))


def chance(task: Task) -> float:
    """Accuracy of the best guess without image and question: 1/options, or always the commonest answer."""
    if any(sample.options is None for sample in task.test):
        return 0.0
    uniform = statistics.fmean(1 / len(sample.options or ()) for sample in task.test)
    commonest, _ = Counter(sample.answer for sample in task.train).most_common(1)[0]
    constant = statistics.fmean(sample.answer == commonest for sample in task.test)
    return max(uniform, constant)


def measure(model: str) -> dict[str, dict[str, float]]:
    """Zero-shot and local-only score of every task on one model."""
    here = machine()
    spec = next(client for client in here.settings.scenario.clients if client.model == model)
    table = {}
    for name in [*here.benchmark.task_names(), *here.benchmark.unseen_names()]:
        task = here.benchmark.task(name)
        here.pool.prepare([model], [*task.train, *task.test])
        scores = train_alone(here, spec, task, start=here.start(spec), slot="local", measure_at=(0, STEPS))
        table[name] = {"zero_shot": scores[0][name], "local": scores[STEPS][name]}
        print(model, name, table[name], flush=True)
    return table


def run() -> dict[str, Any]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        by_model = dict(zip(MODELS, pool.map(measure, MODELS), strict=True))
    benchmark = machine().benchmark
    names = [*benchmark.task_names(), *benchmark.unseen_names()]
    return {
        "command": "python benchmarks/learnable.py",
        "steps": STEPS,
        "tasks": {
            name: {
                "family": benchmark.task(name).family,
                "unseen": name in benchmark.unseen_names(),
                "chance": chance(benchmark.task(name)),
                **{model: by_model[model][name] for model in MODELS},
            }
            for name in names
        },
    }


def markdown(results: dict[str, Any]) -> str:
    head = "| task | family | chance |" + "".join(f" {model} zero | local |" for model in MODELS) + " best lift |"
    lines = [head, "|---|---|---|" + "---|---|" * len(MODELS) + "---|"]
    for name, row in results["tasks"].items():
        cells = "".join(f" {100 * row[m]['zero_shot']:.0f} | {100 * row[m]['local']:.0f} |" for m in MODELS)
        lift = max(row[m]["local"] for m in MODELS) - row["chance"]
        label = name + (" (unseen)" if row["unseen"] else "")
        lines.append(f"| {label} | {row['family']} | {100 * row['chance']:.0f} |{cells} {100 * lift:+.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", action="store_true", help="print the table of an earlier run's file")
    arguments = parser.parse_args()
    if not arguments.markdown:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(run(), indent=1) + "\n")
    print(markdown(json.loads(arguments.out.read_text())))
