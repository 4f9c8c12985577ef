"""Is every task of mosaic40 learnable and none saturated? Chance, zero-shot and local-only accuracy on each base model.

    python benchmarks/learnable.py --out results/learnable.json               # all tasks and models: 20 CPU minutes
    python benchmarks/learnable.py --out results/learnable.json --markdown    # the table of docs/benchmark-checks.md
    python benchmarks/learnable.py --out results/longer.json --steps 300 --batch 16 --tasks which-image@pixel,...

Local-only: one LoRA (rank 16, all projections), by default for twice a task's budget in mosaic40 (125 steps, batch
8); a task that fails so may be tried with more. Chance is that of the best constant guess among the options, or 0 for
open answers. An interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from _runtime import runtime

from fedmosaic.config import load_scenario, resolve
from fedmosaic.data.sample import Task
from fedmosaic.experiments.local_training import train_locally
from fedmosaic.federation import Assets
from fedmosaic.federation.adapter_factory import AdapterFactory

MODELS = ("tiny-llama", "tiny-qwen2", "tiny-gemma")
STEPS, BATCH = 5 * 25, 8


def assets(batch: int = BATCH) -> Assets:
    settings = resolve(load_scenario("mosaic40"), method="sft", overrides=[f"training.batch_size={batch}"])
    return runtime(settings)


def chance(task: Task) -> float:
    """Accuracy of the best guess without image and question: 1/options, or always the commonest answer."""
    if any(sample.options is None for sample in task.test):
        return 0.0
    uniform = statistics.fmean(1 / len(sample.options or ()) for sample in task.test)
    commonest, _ = Counter(sample.answer for sample in task.train).most_common(1)[0]
    constant = statistics.fmean(sample.answer == commonest for sample in task.test)
    return max(uniform, constant)


def part(out: Path, model: str) -> Path:
    """Where one model's scores are kept while the run goes on."""
    return out.with_name(f"{out.stem}-{model}.part.json")


def measure(model: str, *, names: list[str], steps: int, batch: int, out: Path) -> dict[str, dict[str, float]]:
    """Zero-shot and local-only score of tasks on one model; those in its part file already are not repeated."""
    file = part(out, model)
    table: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.is_file() else {}
    here = assets(batch)
    adapters = AdapterFactory(here)
    spec = next(client for client in here.settings.scenario.clients if client.model == model)
    for name in [name for name in names if name not in table]:
        task = here.benchmark.task(name)
        here.pool.prepare([model], [*task.train, *task.test])
        start = adapters.start(spec)
        scores = train_locally(here, adapters, spec, task, start=start, slot="local", measure_at=(0, steps))
        table[name] = {"zero_shot": scores[0][name], "local": scores[steps][name]}
        file.write_text(json.dumps(table))
        print(model, name, table[name], flush=True)
    return table


def run(out: Path, *, names: list[str], models: list[str], steps: int, batch: int) -> dict[str, Any]:
    benchmark = assets().benchmark
    names = names or [*benchmark.task_names(), *benchmark.unseen_names()]
    work = partial(measure, names=names, steps=steps, batch=batch, out=out)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        by_model = dict(zip(models, pool.map(work, models), strict=True))
    return {
        "command": f"python benchmarks/learnable.py --steps {steps} --batch {batch}",
        "models": models,
        "bank": benchmark.images.collection,
        "steps": steps,
        "batch": batch,
        "tasks": {
            name: {
                "family": benchmark.task(name).family,
                "unseen": name in benchmark.unseen_names(),
                "chance": chance(benchmark.task(name)),
                **{model: by_model[model][name] for model in models},
            }
            for name in names
        },
    }


def markdown(results: dict[str, Any]) -> str:
    models = results["models"]
    head = "| task | family | chance |" + "".join(f" {model} zero | local |" for model in models) + " best lift |"
    lines = [head, "|---|---|---|" + "---|---|" * len(models) + "---|"]
    for name, row in results["tasks"].items():
        cells = "".join(f" {100 * row[m]['zero_shot']:.0f} | {100 * row[m]['local']:.0f} |" for m in models)
        lift = max(row[m]["local"] for m in models) - row["chance"]
        label = name + (" (unseen)" if row["unseen"] else "")
        lines.append(f"| {label} | {row['family']} | {100 * row['chance']:.0f} |{cells} {100 * lift:+.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--batch", type=int, default=BATCH, help="samples of a step")
    parser.add_argument("--tasks", default="", help="these tasks only, separated by commas")
    parser.add_argument("--models", default=",".join(MODELS), help="these base models only, separated by commas")
    parser.add_argument("--markdown", action="store_true", help="print the table of an earlier run's file")
    arguments = parser.parse_args()
    if not arguments.markdown:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        chosen = [name for name in arguments.tasks.split(",") if name]
        models = arguments.models.split(",")
        results = run(arguments.out, names=chosen, models=models, steps=arguments.steps, batch=arguments.batch)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        for model in models:
            part(arguments.out, model).unlink(missing_ok=True)
    print(markdown(json.loads(arguments.out.read_text())))
