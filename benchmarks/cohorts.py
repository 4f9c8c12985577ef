"""What do clients gain that train and are scored side by side? CPU or wall-clock time, medians of ratios.

    python benchmarks/cohorts.py --scenario mosaic40-small --steps 4 --rounds 3
    python benchmarks/cohorts.py --scenario mosaic40 --out results/cohorts.json
    python benchmarks/cohorts.py --scenario mosaic40 --only scores

For each base model its clients train their own models (method ``sft``); then all train proxies, which have one base
model (``fedmosaic-proxy`` without own steps); then they do what a default round is; then their models are scored on
some questions of all tasks, own models and products of own model and proxy.
One after another and side by side take turns, and a ratio is the median over turns, so that other load hits both alike.
On a CPU, time is the process's CPU time; on other devices it is wall-clock time.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from fedmosaic.config import RunSettings, resolve
from fedmosaic.config.scenarios import load_scenario
from fedmosaic.evaluation import score_samples
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.participant import Participant
from fedmosaic.io import write_atomically
from fedmosaic.models.device import described
from fedmosaic.training.cohort import Cohort

PROXIES = ("method.own_steps=0", "method.relevance=uniform", "method.weighting=fixed")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="mosaic40")
    parser.add_argument("--steps", type=int, default=8, help="of a client in a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--questions", type=int, default=4, help="of each task, for scores")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--padding", type=float, default=0.15, help="share of padding in a pass; inf: any")
    parser.add_argument("--only", default="", help="cases whose names begin so")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="of all runs, e.g. adapter.rank=8")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = {"device": described(asked.device), "torch": torch.__version__, "steps": asked.steps, "cases": {}}
    first: Assets | None = None
    for name, settings, clients in cases(asked):
        if not name.startswith(asked.only):
            continue
        assets = Assets(settings) if first is None else first.with_settings(settings)
        first = first or assets
        work = partial(_score, count=asked.questions) if name.startswith("scores") else _train
        found["cases"][name] = row = compared(assets, clients, work, asked.rounds, asked.device, asked.padding)
        times = f"{row['alone']:7.2f} s  {row['together']:7.2f} s  {row['ratio']:.2f}"
        print(f"{name:32s} {row['clients']:3d} clients  {times}", flush=True)
    if asked.out:
        write_atomically(asked.out, json.dumps(found, indent=2).encode())


def cases(asked: argparse.Namespace) -> Iterator[tuple[str, RunSettings, list[int]]]:
    """Yield name, settings and clients of each comparison."""
    scenario = load_scenario(asked.scenario)
    given = [f"training.steps={asked.steps}", *asked.overrides]

    def settings(method: str, *more: str) -> RunSettings:
        return resolve(scenario, overrides=[*given, *more], method=method, device=asked.device)

    everyone = scenario.clients
    for model in sorted(set(scenario.models)):
        yield f"own: {model}", settings("sft"), [client.id for client in everyone if client.model == model]
    ids = [client.id for client in everyone]
    yield "proxies", settings("fedmosaic-proxy", *PROXIES), ids
    yield "fedmosaic", settings("fedmosaic"), ids
    yield "fedmosaic-proxy", settings("fedmosaic-proxy"), ids
    for method in ("fedmosaic", "fedmosaic-proxy"):
        yield f"scores: {method}", settings(method), ids


def compared(
    assets: Assets,
    clients: Sequence[int],
    work: Callable[[Assets, Participant], float],
    rounds: int,
    device: str,
    padding: float,
) -> dict[str, Any]:
    """Return medians of the seconds of both ways, and of their ratio."""
    adapters = AdapterFactory(assets)
    participants = [Participant(assets, adapters, client) for client in clients]
    works = [partial(work, assets, participant) for participant in participants]
    cohort = Cohort(len(works), device, padding=padding)
    ways: dict[str, Callable[[], Any]] = {
        "alone": lambda: [work() for work in works],
        "together": lambda: cohort.run(works, raises=True),
    }
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):  # the first one warms up
        for way, run in ways.items():
            gc.collect()
            start = clock()
            run()
            if turn:
                seconds[way].append(clock() - start)
    adapters.detach()
    ratios = [together / alone for alone, together in zip(seconds["alone"], seconds["together"], strict=True)]
    return {"clients": len(works), "ratio": median(ratios), **{way: median(each) for way, each in seconds.items()}}


def _train(_: Assets, participant: Participant) -> float:
    return participant.train(participant.client(1), {}).meter.loss  # which waits for the device


def _score(assets: Assets, participant: Participant, *, count: int) -> float:
    tasks = [assets.benchmark.task(name).test[:count] for name in assets.settings.scenario.task_names]
    how = assets.settings.evaluation
    with assets.method.answering(participant.client(1)) as model:
        return score_samples(model, list(itertools.chain(*tasks)), batch_size=how.batch_size).mean


if __name__ == "__main__":
    main()
