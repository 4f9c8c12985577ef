"""What would the clients of finished runs answer with the mean of their weights after the last two rounds?

    python benchmarks/averaged.py runs/field/steps/rates/*-x1 --out results/averaged.json      # a CPU-minute a run
    python benchmarks/averaged.py --markdown --out results/averaged.json

No training: ``training.averaged_rounds`` changes answers alone, and a run folder keeps its clients' last two states.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fedmosaic.cli.finished import finished_run
from fedmosaic.federation import RunFolder
from fedmosaic.federation.examination import self_and_others
from fedmosaic.federation.files import write_atomically

WINDOW = 2


def measure(run: Path) -> dict[str, Any]:
    machine, settings = finished_run(run)
    training = settings.training.model_copy(update={"averaged_rounds": WINDOW})
    machine.settings = settings.model_copy(update={"training": training})
    results = RunFolder(run).results() or {}
    return {
        "method": settings.method,
        "learning_rate": settings.training.learning_rate,
        "split": settings.evaluation.split,
        "last": [results[part]["last"] for part in ("self", "others")],
        "averaged": list(self_and_others(machine, rounds=settings.rounds)),
    }


def show(found: dict[str, dict[str, Any]]) -> str:
    lines = ["| run | Self | averaged | Others | averaged |", "|---|---|---|---|---|"]
    for name, row in found.items():
        cells = [f"{100 * row[key][part]:.1f}" for part in (0, 1) for key in ("last", "averaged")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", action="store_true", help="print the table of an earlier call's file")
    arguments = parser.parse_args()
    table = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    for folder in arguments.runs:
        if folder.name not in table:
            table[folder.name] = measure(folder)
            write_atomically(arguments.out, json.dumps(table, indent=1) + "\n")
            print(folder.name, table[folder.name], flush=True)
    if arguments.markdown:
        print(show(table))
