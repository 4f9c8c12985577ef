"""What a sketch costs, in cosine error and in time.

    python benchmarks/sketch_error.py --out results/sketch-error.json          # about 2 CPU-minutes

Error: |cosine of two sketches - cosine of the two full gradients|, over all pairs of different clients and rounds of
mosaic40; a client's gradient is the mean over the samples that are new to it in the round.
Time: of one round of local training (method sft, 20 steps of 8), of the probe's whole look at the same round's new
samples, and of the sketch alone in it; medians of repetitions, one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _domains import Seen, arrivals, make_probe, probe_model
from _runtime import frozen_probe_runtime
from torch import Tensor

from fedmosaic.config import load_scenario, resolve
from fedmosaic.federation import Assets
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.participant import Participant, TrainedRound
from fedmosaic.relevance import answer_gradients, cosine_similarity

KINDS: dict[str, dict[str, Any]] = {
    "full": {"kind": "full"},
    "projection, 256": {"kind": "projection", "size": 256},
    "projection, 1024": {"kind": "projection", "size": 1024},
    "projection, 4096": {"kind": "projection", "size": 4096},
    "subset, 0.02": {"kind": "subset", "ratio": 0.02},
    "subset, 0.4": {"kind": "subset", "ratio": 0.4},
}


def means(seen: list[Seen], box: Assets) -> dict[str, Tensor]:
    """(n, size) mean sketches of every client and round, by kind of sketch; each sample is passed once."""
    model = probe_model(box)
    sketches = {name: make_probe(model, **kind).sketch for name, kind in KINDS.items()}
    rows: dict[str, list[Tensor]] = {name: [] for name in KINDS}
    for here in seen:
        parts = answer_gradients(model, model.collate(here.samples))
        one = torch.zeros_like(parts.rows)  # all samples are rows of one gradient: their sum
        for name, sketch in sketches.items():
            rows[name].append(sketch(parts.d, parts.h, one, 1)[0])
    return {name: torch.stack(each) for name, each in rows.items()}


def errors(seen: list[Seen], box: Assets) -> dict[str, dict[str, float]]:
    by_kind = means(seen, box)
    clients = torch.tensor([here.client for here in seen])
    pairs = (clients[:, None] < clients).nonzero(as_tuple=True)
    exact = cosine_similarity(by_kind["full"])[pairs]
    table = {}
    for name, rows in by_kind.items():
        error = (cosine_similarity(rows)[pairs] - exact).abs()
        table[name] = {
            "numbers": rows.shape[1],
            "median": float(error.median()),
            "p95": float(error.quantile(0.95)),
        }
    return table


def seconds(work: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def trained(participant: Participant) -> TrainedRound:
    return participant.train(participant.client(participant.spec.joins), {})


def times(seen: list[Seen], repeat: int) -> dict[str, dict[str, float]]:
    """By base model: seconds of a round of training, of the probe, and of each kind of sketch."""
    settings = resolve(load_scenario("mosaic40"), method="sft")
    table: dict[str, dict[str, float]] = {}
    box = Assets(settings)
    adapters = AdapterFactory(box)
    model = probe_model(box)
    for spec in settings.scenario.clients[:3]:
        new = next(here.samples for here in seen if here.client == spec.id and here.round == 1)
        participant = Participant(box, adapters, spec.id)
        probe = make_probe(model, "projection")
        parts = answer_gradients(model, model.collate(new))
        trained(participant), probe(new)
        row = {
            "training": statistics.median(trained(participant).meter.seconds for _ in range(repeat)),
            "probe": seconds(lambda: probe(new), 3 * repeat),  # noqa: B023
        }
        for name, kind in KINDS.items():
            sketch = make_probe(model, **kind).sketch
            row[name] = seconds(
                lambda: sketch(parts.d, parts.h, parts.rows, len(new)),  # noqa: B023
                3 * repeat,
            )
        table[spec.model] = row
    return table


def show(result: dict[str, Any]) -> str:
    lines = ["| sketch | numbers | median error | 95th percentile | share of training time |", "|---|---|---|---|---|"]
    for name, row in result["errors"].items():
        share = max(times[name] / times["training"] for times in result["seconds"].values())
        lines.append(f"| {name} | {row['numbers']} | {row['median']:.4f} | {row['p95']:.4f} | {100 * share:.2f} % |")
    probes = ", ".join(f"{m} {100 * t['probe'] / t['training']:.1f} %" for m, t in result["seconds"].items())
    return "\n".join([*lines, "", f"The probe's whole look, of the training time: {probes}."])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    box = frozen_probe_runtime("mosaic40")
    seen = arrivals(box, seed=arguments.seed)
    command = f"python benchmarks/sketch_error.py --seed {arguments.seed} --repeat {arguments.repeat}"
    result = {"command": command, "errors": errors(seen, box), "seconds": times(seen, arguments.repeat)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(show(result))
