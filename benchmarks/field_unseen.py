"""What each method's federation is worth to a newcomer with a task that nobody trained on.

    TASKS=digit-parity@chalk,place@photo,bongard@stencil,category@stencil,same-arrangement@twemoji
    RATES="--set training.learning_rate=0.003 --set training.colora_learning_rate=0.01"
    for run in runs/field/flops/*-seed?; do fedmosaic adapt $run --tasks $TASKS --steps 0,10,30 --seeds 1 $RATES; done
    python benchmarks/field_unseen.py --runs runs/field/flops        # adds their scores to results/field/unseen.json

The clients' adapters are merged into one start per base model and fine-tuned for a few steps on each unseen task, with
the same steps and the default learning rates for all methods; beside it, an untrained adapter. Mean over the three base
models.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from fedmosaic.cli.compare import percent
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


def adapted(run: Path) -> dict[str, dict[str, list[float]]]:
    """Return start -> task -> scores that ``adapt`` found for a run; of sft's run also of the untrained adapter."""
    _, variant = seed_and_variant(run)
    found: dict[str, dict[str, list[float]]] = {}
    for name, start in ((variant, "merged"), *([(UNTRAINED, "scratch")] if variant == "sft" else [])):
        curves = {
            task: json.loads((run / "adapt" / f"{task}.json").read_text(encoding="utf-8"))[start] for task in TASKS
        }
        found[name] = {task: [curve[str(step)] for step in STEPS] for task, curve in curves.items()}
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
    parser.add_argument("--runs", type=Path, help="folder of runs that were adapted; their scores are added")
    arguments = parser.parse_args()
    kept: Any = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    rows: Rows = defaultdict(dict, kept)
    for run in sorted(arguments.runs.glob("*-seed*") if arguments.runs else (), key=seed_and_variant):
        if all((run / "adapt" / f"{task}.json").is_file() for task in TASKS):
            for name, by_task in adapted(run).items():
                rows[name][seed_and_variant(run)[0]] = by_task
            write_atomically(OUT, json.dumps(rows, indent=1) + "\n")
    print(show(rows))
