"""What would the clients of finished runs answer with the mean of their weights after the last two rounds?

    python benchmarks/averaged.py runs/field/steps/rates/*-x1 --out results/averaged.json      # a CPU-minute a run
    python benchmarks/averaged.py --markdown --out results/averaged.json

No training: ``training.averaged_rounds`` changes answers alone, and a run folder keeps its clients' last two states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_tables import main

from fedmosaic.cli.finished import finished_run
from fedmosaic.experiments.rescoring import self_and_others
from fedmosaic.federation import RunFolder

WINDOW = 2


def measure(run: Path) -> dict[str, Any]:
    machine, settings = finished_run(run)
    training = settings.training.model_copy(update={"averaged_rounds": WINDOW})
    machine.settings = settings.model_copy(update={"training": training})
    results = RunFolder(run).results()
    assert results is not None
    row = {
        "method": settings.method,
        "learning_rate": settings.training.learning_rate,
        "split": settings.evaluation.split,
        "last": [part.last for part in (results.self_, results.others) if part],
        "averaged": list(self_and_others(machine, rounds=settings.rounds)),
    }
    print(run.name, row, flush=True)
    return row


def show(found: dict[str, dict[str, Any]]) -> str:
    lines = ["| run | Self | averaged | Others | averaged |", "|---|---|---|---|---|"]
    for name, row in found.items():
        cells = [f"{100 * row[key][part]:.1f}" for part in (0, 1) for key in ("last", "averaged")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, measure, show, again=False)
