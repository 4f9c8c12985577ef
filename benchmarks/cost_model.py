"""Does the cost model tell the truth? FLOPs that it counts, beside time that the same round takes, for every method.

    python benchmarks/cost_model.py --out results/cost-model.json      # 25 CPU-minutes
    python benchmarks/cost_model.py --out results/cost-model.json --markdown

The second round of mosaic40, the first in which there is something to receive, with all clients and the server, as
multiples of sft's. Time is the median of repetitions in which the methods take turns, on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from _runtime import runtime

from fedmosaic.config import load_scenario, resolve
from fedmosaic.experiments.dry_run import steady_round
from fedmosaic.methods.registry import method_classes

TARGET = 0.2


def measure(methods: list[str], repeat: int) -> dict[str, dict[str, float]]:
    settings = {method: resolve(load_scenario("mosaic40"), method=method) for method in methods}
    flops, seconds = {}, defaultdict(list)
    for turn in range(repeat + 1):  # the first one warms up
        for method, each in settings.items():
            steady = steady_round(runtime(each))
            flops[method] = steady.flops
            if turn:
                seconds[method].append(steady.seconds)
        print(f"turn {turn} of {repeat}", flush=True)
    medians = {method: statistics.median(each) for method, each in seconds.items()}
    return {
        method: {"flops": flops[method] / flops["sft"], "seconds": medians[method] / medians["sft"]}
        for method in methods
    }


def show(rows: dict[str, dict[str, float]]) -> str:
    lines = ["| method | FLOPs | time | time per FLOP |", "|---|---|---|---|"]
    for method, row in rows.items():
        off = row["seconds"] / row["flops"] - 1
        mark = "" if abs(off) <= TARGET else " (!)"
        lines.append(f"| `{method}` | {row['flops']:.2f} | {row['seconds']:.2f} | {100 * off:+.0f} %{mark} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--methods", type=lambda text: text.split(","), help="default: all")
    parser.add_argument("--markdown", action="store_true", help="print the table of an earlier run's file")
    arguments = parser.parse_args()
    if not arguments.markdown:
        torch.set_num_threads(1)
        others = [name for name in arguments.methods or sorted(method_classes()) if name != "sft"]
        command = f"python benchmarks/cost_model.py --repeat {arguments.repeat}"
        table: dict[str, Any] = {"command": command, "rows": measure(["sft", *others], arguments.repeat)}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(table, indent=1) + "\n")
    print(show(json.loads(arguments.out.read_text())["rows"]))
