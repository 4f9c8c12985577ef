"""Does the cost model tell the truth? FLOPs that it counts, beside time that the same round takes, for every method.

    python benchmarks/cost_model.py --out results/cost-model.json      # 15 CPU-minutes
    python benchmarks/cost_model.py --out results/cost-model.json --markdown

One round of mosaic40 with one client of each base model, the server's share included, as multiples of sft's. Time is
the median of repetitions in which the methods take turns, on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fedmosaic.config import load_scenario, resolve
from fedmosaic.federation import Machine
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.workbench import Workbench
from fedmosaic.methods.base import Uploads
from fedmosaic.methods.registry import method_classes

TARGET = 0.2


class Round:
    """One method's round, as often as it is asked for."""

    def __init__(self, method: str) -> None:
        self.settings = resolve(load_scenario("mosaic40"), method=method)
        machine, scenario = Machine(self.settings, Path("unused")), self.settings.scenario
        self.alike = [[spec.id for spec in scenario.clients if spec.model == model] for model in scenario.models]
        self.participants = [Participant(machine, clients[0]) for clients in self.alike]

    def __call__(self) -> tuple[float, float]:
        """FLOPs and seconds of all clients and the server."""
        flops, seconds, uploads = 0.0, 0.0, []
        for participant, clients in zip(self.participants, self.alike, strict=True):
            upload, meter = participant.dry_round()
            flops, seconds = flops + len(clients) * meter.flops, seconds + len(clients) * meter.seconds
            uploads += [replace(upload, client=client) for client in clients]
        workbench = Workbench(self.settings)
        start = time.perf_counter()
        workbench.aggregate(Uploads(uploads), {}, 2)
        return flops + workbench.spent.flops, seconds + time.perf_counter() - start


def measure(methods: list[str], repeat: int) -> dict[str, dict[str, float]]:
    rounds = {method: Round(method) for method in methods}
    flops, seconds = {}, defaultdict(list)
    for turn in range(repeat + 1):  # the first one warms up
        for method, once in rounds.items():
            flops[method], taken = once()
            if turn:
                seconds[method].append(taken)
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
