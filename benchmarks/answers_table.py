"""The table of what `fedmosaic evaluate RUN --mix ... --average ...` found for several runs.

for run in runs/levers/*-seed0; do fedmosaic evaluate $run --mix L,0.25,0.5,0.75,M --average 2; done
python benchmarks/answers_table.py runs/levers/*-seed0
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def show(runs: list[Path]) -> str:
    lines = ["| run | answers | Self | Others |", "|---|---|---|---|"]
    for run in runs:
        for name, scores in json.loads((run / "answers.json").read_text(encoding="utf-8")).items():
            cells = ["" if score is None else f"{100 * score:.1f}" for score in (scores["self"], scores["others"])]
            lines.append(f"| {run.name} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs that were evaluated so")
    print(show(parser.parse_args().runs))
