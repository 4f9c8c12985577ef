"""What would the clients of a finished FedMosaic run answer with other weights of their two slots?

    fedmosaic compare mosaic40 --methods fedmosaic --seeds 0 --set evaluation.split=validation --out runs/levers
    python benchmarks/answer_mix.py runs/levers/fedmosaic-seed0 --out results/answer-mix.json     # 4 CPU-minutes
    python benchmarks/answer_mix.py --markdown --out results/answer-mix.json

No training: the local slot gets 1 - g, the received one g, the same g in all layers, instead of the trained gate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_tables import main

from fedmosaic.adapters import SlotWeights
from fedmosaic.cli.finished import finished_run
from fedmosaic.experiments.rescoring import self_and_others

SHARES = (0.0, 0.25, 0.5, 0.6, 0.75, 1.0)


def measure(run: Path) -> list[dict[str, Any]]:
    runtime, settings = finished_run(run)
    for spec in settings.scenario.clients:
        runtime.adapters.adapter(spec)  # with its gate, whatever answers
    mixes: dict[str, SlotWeights] = {"gate": runtime.assets.method.answers_with}
    mixes |= {f"{share:g}": {"local": 1 - share, "personal_global": share} for share in SHARES}
    rows = []
    for name, mix in mixes.items():
        runtime.assets.method.answers_with = mix
        own, foreign = self_and_others(runtime, rounds=settings.rounds)
        rows.append({"share": name, "self": own, "others": foreign})
        print(rows[-1], flush=True)
    return rows


def show(tables: dict[str, list[dict[str, Any]]]) -> str:
    lines = ["| run | weight of the received slot | Self | Others |", "|---|---|---|---|"]
    for run, rows in tables.items():
        lines += [f"| {run} | {row['share']} | {100 * row['self']:.1f} | {100 * row['others']:.1f} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, measure, show, again=True)
