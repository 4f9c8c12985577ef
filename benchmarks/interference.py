"""Which skills help each other and which interfere: train on a task with and without another one, test on the first.

    python benchmarks/interference.py --out results/interference.json          # 11 minutes on 2 cores for each seed

Row task A, column task B: accuracy on A after training on 60 samples of A mixed with 60 of B, minus that after training
on the 60 of A alone, at equal numbers of samples of A seen (points, mean over seeds, tiny-llama). Positive: B helps A.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from learnable import assets

from fedmosaic.data.sample import Task
from fedmosaic.experiments.local_training import train_locally
from fedmosaic.federation import Assets
from fedmosaic.federation.adapter_factory import AdapterFactory

MODEL = "tiny-llama"
SAMPLES, STEPS = 60, 60
TASKS = (
    "same-category@openmoji",
    "same-category@blueprint",
    "bongard@twemoji",
    "bongard@night",
    "common-concept@line",
    "count-compare@twemoji",
    "count-compare@photo",
    "edit-type@photo",
    "highest-bar@hbars",
    "trend@lines",
    "trend@screen",
)


@cache
def here() -> tuple[Assets, AdapterFactory]:
    built = assets()
    for name in TASKS:
        task = built.benchmark.task(name)
        built.pool.prepare([MODEL], [*task.train, *task.test])
    return built, AdapterFactory(built)


def score(first: str, second: str | None, seed: int) -> float:
    """Accuracy on the first task after training on it, alone or mixed with the second."""
    box, adapters = here()
    task, other = box.benchmark.task(first), box.benchmark.task(second) if second else None
    train = task.train[:SAMPLES] + (other.train[:SAMPLES] if other else ())
    mixture = Task(task.name, task.family, train, task.validation, task.test)
    steps = STEPS * (2 if other else 1)
    spec = next(client for client in box.settings.scenario.clients if client.model == MODEL)
    scores = train_locally(
        box,
        adapters,
        spec,
        mixture,
        start=adapters.start(spec),
        slot="local",
        measure_at=(steps,),
        tests=(task,),
        seed=seed,
    )
    return scores[steps][first]


def row(first: str, seeds: int) -> dict[str, Any]:
    alone = [score(first, None, seed) for seed in range(seeds)]
    mixed = {
        second: [score(first, second, seed) - alone[seed] for seed in range(seeds)]
        for second in TASKS
        if second != first
    }
    print(first, statistics.fmean(alone), {name: statistics.fmean(gains) for name, gains in mixed.items()}, flush=True)
    return {"alone": alone, "gain": mixed}


def markdown(results: dict[str, Any]) -> str:
    """The table, its columns numbered as its rows, and the mean over pairs of one skill and over all others."""
    names = list(results["rows"])
    numbers = range(1, len(names) + 1)
    lines = ["| A \\ B | alone |" + "".join(f" {number} |" for number in numbers), "|---|---|" + "---|" * len(names)]
    alike, unlike = [], []
    for number, first in zip(numbers, names, strict=True):
        entry = results["rows"][first]
        gains = {second: 100 * statistics.fmean(each) for second, each in entry["gain"].items()}
        for second, gain in gains.items():
            (alike if first.split("@")[0] == second.split("@")[0] else unlike).append(gain)
        cells = [f"{gains[second]:+.0f}" if second in gains else "-" for second in names]
        lines.append(f"| {number} {first} | {100 * statistics.fmean(entry['alone']):.0f} | " + " | ".join(cells) + " |")
    means = [f"{statistics.fmean(each):+.1f} over {len(each)} pairs" for each in (alike, unlike)]
    return "\n".join(
        [*lines, "", f"Mean gain: {means[0]} of one skill in two domains, {means[1]} of different skills."]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--markdown", action="store_true", help="print the table of an earlier run's file")
    arguments = parser.parse_args()
    if not arguments.markdown:
        here()  # the features are computed once, before the processes start
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            rows = dict(zip(TASKS, pool.map(partial(row, seeds=arguments.seeds), TASKS), strict=True))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        command = f"python benchmarks/interference.py --seeds {arguments.seeds}"
        results = {"command": command, "samples": SAMPLES, "steps": STEPS, "rows": rows}
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(markdown(json.loads(arguments.out.read_text())))
