"""The field, run fairly: every method on mosaic40, at equal steps and at equal FLOPs.

    python benchmarks/field.py steps flops              # first: each chooses everybody's learning rates at its steps
    python benchmarks/field.py ablations alignment static homo    # with the learning rates of the second
    python benchmarks/field.py --markdown               # the tables of what is done

A table is one ``fedmosaic compare``. A run takes 3 to 6 CPU-minutes, and all tables together 20 CPU-hours. They
need not be spent at once: finished runs are kept in ``results/field/TABLE.jsonl.gz``, and any machine goes on from
there, as long as its package ships the same models.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fedmosaic.cli.compare import percent, share_of_budget
from fedmosaic.experiments.paired import Difference
from fedmosaic.experiments.sweep import best_rate
from fedmosaic.io import folder_written_atomically, write_atomically
from fedmosaic.methods.registry import method_classes
from fedmosaic.models.vision_weights import ASSETS

RESULTS = Path(__file__).parents[1] / "results" / "field"
RATES = "0.3,1,3"
RIVALS = ["sft", "fedavg", "ditto", "feddat", "feddpa"]
ABLATED = ["relevance=uniform", "colora=false", "gate=false", "adapter.alignment=none"]
ALL = ["fedmosaic", *RIVALS, *(name for name in method_classes() if name not in ("fedmosaic", *RIVALS))]
CHOSEN = ["fedmosaic:restart=0.5:share=0.75", "fedmosaic:answers=familiarity"]  # on validation samples: docs/field.md
CORE = ["fedmosaic", *(f"fedmosaic:{change}" for change in ABLATED), *RIVALS]
ALIGNED = ["fedmosaic", *(f"fedmosaic:adapter.alignment={mode}" for mode in ("none", "a", "pivot", "published"))]
KEPT = ("settings.toml", "results.json", "rounds.csv")

TABLES: dict[str, tuple[str, list[str], list[str]]] = {
    "steps": ("mosaic40", ALL, ["--rates", RATES]),
    "flops": ("mosaic40", [*ALL, *CHOSEN], ["--budget", "flops", "--rates", RATES]),
    "ablations": ("mosaic40", CORE, ["--budget", "flops"]),
    "alignment": ("mosaic40", ALIGNED, ["--budget", "flops"]),
    "static": ("mosaic40", CORE, ["--budget", "flops", "--set", "scenario.protocol=static"]),
    "homo": ("mosaic40-homo", CORE, ["--budget", "flops"]),
}
"""Table -> scenario, methods, further arguments of ``fedmosaic compare``."""
SHARED = {"flops": "steps", "ablations": "flops", "alignment": "ablations"}
"""Table -> the earlier one that has runs with the same settings."""
RATES_OF = dict.fromkeys(("ablations", "alignment", "static", "homo"), "flops")
"""Table -> the earlier one that has chosen the learning rates, at about the same steps."""
CODE = 2  # to be raised when methods or budgets are changed so that runs with equal settings give other numbers


@cache
def edition() -> str:
    """What the kept runs depend on besides their settings: the code, and the shipped models and bases."""
    digest = hashlib.sha256(bytes([CODE]))
    for path in sorted(ASSETS.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def kept(table: str) -> Iterator[dict[str, Any]]:
    path = RESULTS / f"{table}.jsonl.gz"
    if path.is_file():
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from (run for run in map(json.loads, file) if run["edition"] == edition())


def unpack(table: str, out: Path) -> None:
    """Lay out the kept runs as the folders of finished ones."""
    for run in kept(table):
        target = out / run["name"]
        if not target.exists():
            with folder_written_atomically(target) as folder:
                for name, text in run["files"].items():
                    (folder / name).write_text(text, encoding="utf-8")


def pack(table: str, out: Path) -> int:
    """Keep all finished runs, and the comparison of them; return how many there are."""
    runs = {run["name"]: run for run in kept(table)}
    for done in sorted(out.rglob("results.json")):
        name = done.parent.relative_to(out).as_posix()
        files = {file: (done.parent / file).read_text(encoding="utf-8") for file in KEPT}
        runs[name] = {"name": name, "edition": edition(), "files": files}
    lines = "".join(json.dumps(runs[name]) + "\n" for name in sorted(runs))
    write_atomically(RESULTS / f"{table}.jsonl.gz", gzip.compress(lines.encode(), mtime=0))
    for name in ("comparison.json", "comparison.csv"):
        if (out / name).is_file():
            shutil.copy(out / name, RESULTS / f"{table}{Path(name).suffix}")
    return len(runs)


def make(table: str, *, out: Path, jobs: int) -> None:
    scenario, methods, further = TABLES[table]
    unpack(table, out)
    if chooser := RATES_OF.get(table):
        further = [*further, "--rates", str(RESULTS / f"{chooser}.json")]
    if earlier := SHARED.get(table):
        unpack(earlier, out.parent / earlier)
        further = [*further, "--finished", str(out.parent / earlier)]
    command = [sys.executable, "-m", "fedmosaic", "compare", scenario, "--methods", ",".join(methods)]
    running = subprocess.Popen([*command, *further, "--jobs", str(jobs), "--out", str(out)])
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
        for part in ("self", "others"):
            cells += [percent(row[f"{part}_last"]), against(row["against_rivals"][part])]
        cells += [percent(row[f"{part}_auc"]) for part in ("self", "others")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def show_rates(comparison: dict[str, Any]) -> str:
    """Mean of Self and Others on validation samples by factor of the learning rates, the best one in bold."""
    factors = RATES.split(",")
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
            if name not in RATES_OF:
                print(f"\nlearning rates\n\n{show_rates(found)}")
