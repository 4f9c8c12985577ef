"""What each method's federation is worth to a newcomer with a task that nobody trained on.

    python benchmarks/field.py flops                # runs whose clients' states are on this machine
    python benchmarks/field_unseen.py               # 1 CPU-minute a run
    python benchmarks/field_unseen.py --markdown

The clients' adapters are merged into one start per base model and fine-tuned for a few steps on each unseen task, with
the same steps and the default learning rates for all methods; beside it, an untrained adapter. Mean over the three base
models. Runs that are in ``results/field/unseen.json`` already are left alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from fedmosaic.cli.compare import percent
from fedmosaic.cli.finished import finished_run
from fedmosaic.config import load_scenario, resolve
from fedmosaic.experiments.adaptation import adapt
from fedmosaic.experiments.comparison import interval
from fedmosaic.experiments.paired import paired_difference
from fedmosaic.io import write_atomically

OUT = Path(__file__).parents[1] / "results" / "field" / "unseen.json"
TASKS = ("digit-parity@chalk", "place@photo", "bongard@stencil", "category@stencil", "same-arrangement@twemoji")
STEPS = (0, 10, 30)
UNTRAINED = "(untrained adapter)"

BySeed = dict[str, dict[str, list[float]]]
"""Seed -> task -> score after each of STEPS."""
Rows = dict[str, BySeed]
"""By variant of a method."""


def measure(run: Path, variant: str) -> dict[str, dict[str, list[float]]]:
    """Return start -> task -> scores: of the merged adapters, and of sft's run also of the untrained adapter."""
    default = resolve(load_scenario("mosaic40")).training
    runtime, settings = finished_run(run, change=lambda own: own.model_copy(update={"training": default}))
    scratch = settings.method == "sft"
    found: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for task in TASKS:
        scores = adapt(runtime, task, rounds=settings.rounds, seeds=1, steps=STEPS, scratch=scratch)
        found[variant][task] = [scores.merged[step] for step in STEPS]
        if scratch:
            found[UNTRAINED][task] = [scores.scratch[step] for step in STEPS]
    return found


def seed_and_variant(run: Path) -> tuple[str, str]:
    """What a run's folder is named after."""
    variant, _, seed = run.name.rpartition("-seed")
    return seed, variant


def show(rows: Rows) -> str:
    lines = [
        "| start | seeds | " + " | ".join(f"{step} steps" for step in STEPS) + " | against untrained |",
        "|---|---|" + "---|" * len(STEPS) + "---|",
    ]
    for method, seeds in rows.items():
        curves = [
            [statistics.fmean(scores) for scores in zip(*tasks.values(), strict=True)] for tasks in seeds.values()
        ]
        cells = [percent(interval(scores)) for scores in zip(*curves, strict=True)]
        name = method if method == UNTRAINED else f"`{method}`"
        cells.append("" if method == UNTRAINED else lead(seeds, rows[UNTRAINED]))
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def lead(ours: BySeed, theirs: BySeed) -> str:
    """Difference in points after the last of STEPS, paired over seeds and tasks; a star if zero lies outside."""
    seeds = sorted(ours.keys() & theirs.keys())
    last = [[{task: scores[-1] for task, scores in side[seed].items()} for seed in seeds] for side in (ours, theirs)]
    return paired_difference(*last).in_points()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/field/flops"))
    parser.add_argument("--markdown", action="store_true", help="print the table of what is done")
    arguments = parser.parse_args()
    kept: Any = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    rows: Rows = defaultdict(dict, kept)
    runs = [] if arguments.markdown else list(arguments.runs.glob("*-seed*"))
    for run in sorted(runs, key=seed_and_variant):  # seed by seed, so that what is done compares like with like
        seed, variant = seed_and_variant(run)
        if not (run / "clients").is_dir() or seed in rows.get(variant, {}):
            continue
        for name, by_task in measure(run, variant).items():
            rows[name][seed] = by_task
        write_atomically(OUT, json.dumps(rows, indent=1) + "\n")
        print(run.name, flush=True)
    print(show(rows))
