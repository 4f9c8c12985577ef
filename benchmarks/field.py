"""The field, run fairly: every method on mosaic40, at equal steps and at equal FLOPs.

    python benchmarks/field.py tower                    # everybody with the tower adapter: the table to look at first
    python benchmarks/field.py steps flops              # first: each chooses everybody's learning rates at its steps
    python benchmarks/field.py ablations alignment static homo    # with the learning rates of the second
    python benchmarks/field.py --markdown               # the tables of what is done

A table is ``fedmosaic compare --sweep FILE`` with a file of ``benchmarks/sweeps``. A run takes 3 to 6 CPU-minutes, and
all tables together 20 CPU-hours. They need not be spent at once: finished runs are kept in
``results/field/TABLE.jsonl.gz``, and any machine goes on from there, as long as its package ships the same models.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from _kept_runs import RESULTS, pack, unpack

from fedmosaic.cli.compare import percent, share_of_budget
from fedmosaic.experiments.comparison import PARTS
from fedmosaic.experiments.paired import Difference
from fedmosaic.experiments.sweep import best_rate

SWEEPS = Path(__file__).parent / "sweeps"
TABLES = (
    "tower",
    "tower-static",
    "tower-homo",
    "tower-ablations",
    "tower-relevance",
    "steps",
    "flops",
    "ablations",
    "alignment",
    "static",
    "homo",
    "words12",
    "real-small",
    "mosaic40-real",
)
SHARED = {
    "tower-ablations": "tower",
    "tower-relevance": "tower",
    "flops": "steps",
    "ablations": "flops",
    "alignment": "ablations",
}
"""Table -> the earlier one that has runs with the same settings."""
CHOOSERS = ("steps", "flops")
"""Tables that choose learning rates."""


def make(table: str, *, out: Path, jobs: int) -> None:
    unpack(table, out)
    command = [sys.executable, "-m", "fedmosaic", "compare", "--sweep", str(SWEEPS / f"{table}.toml")]
    if earlier := SHARED.get(table):
        unpack(earlier, out.parent / earlier)
        command += ["--finished", str(out.parent / earlier)]
    running = subprocess.Popen([*command, "--jobs", str(jobs), "--out", str(out)])
    try:
        while running.poll() is None:
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                pack(table, out)
    finally:
        running.terminate()
        running.wait()
        print(f"{table}: {pack(table, out)} runs are kept", flush=True)
    if running.returncode:
        raise SystemExit(running.returncode)


def show(comparison: dict[str, Any]) -> str:
    initial = {part: f"{100 * found['mean']:.1f}" for part, found in comparison["initial"].items()}
    lines = [
        "| method | seeds | rates | steps | % of budget | Self | against | Others | against | Self AUC | Others AUC |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        f"| base models | | | | | {initial['self']} | | {initial['others']} | | | |",
    ]
    for row in comparison["rows"]:
        best = best_rate(tried(comparison).get(row["method"], {}))
        name, _, change = row["method"].partition(":")
        cells = [f"`{name}` {change}".rstrip(), row["runs"], f"{best:g}", f"{row['settings']['steps']:g}"]
        cells.append(share_of_budget(row.get("spent")))
        for part in PARTS:
            cells += [percent(row[f"{part}_last"]), against(row["against_rivals"][part])]
        cells += [percent(row[f"{part}_auc"]) for part in PARTS]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        if row.get("self_exchanged"):
            cells = ["after the last exchange", "", "", "", ""]
            for part in PARTS:
                cells += [percent(row[f"{part}_exchanged"]), against(row["against_rivals_exchanged"][part])]
            lines.append("| " + " | ".join([*cells, "", ""]) + " |")
    return "\n".join(lines)


def show_rates(comparison: dict[str, Any]) -> str:
    """Mean of Self and Others on validation samples by factor of the learning rates, the best one in bold."""
    factors = [f"{each:g}" for each in next(iter(tried(comparison).values()))]
    lines = ["| method | " + " | ".join(f"x {each}" for each in factors) + " |", "|---" * (len(factors) + 1) + "|"]
    for method, scores in tried(comparison).items():
        best = best_rate(scores)
        cells = [f"**{100 * score:.1f}**" if each == best else f"{100 * score:.1f}" for each, score in scores.items()]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tried(comparison: dict[str, Any]) -> dict[str, dict[float, float]]:
    """Method -> factor of the learning rates -> validation score."""
    return {
        method: {float(each): score for each, score in scores.items()} for method, scores in comparison["rates"].items()
    }


def against(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    difference = Difference(found["mean"], found["low"], found["high"])
    return f"{difference.in_points()} ({found['rival']})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="which (default: all, in this order)")
    parser.add_argument("--out", type=Path, default=Path("runs/field"), help="folder for the runs' folders")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--markdown", action="store_true", help="print the tables of what is done")
    arguments = parser.parse_args()
    for name in arguments.tables or TABLES:
        if not arguments.markdown:
            make(name, out=arguments.out / name, jobs=arguments.jobs)
        if (RESULTS / f"{name}.json").is_file():
            found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
            print(f"\n{name}\n\n{show(found)}")
            if name in CHOOSERS:
                print(f"\nlearning rates\n\n{show_rates(found)}")
