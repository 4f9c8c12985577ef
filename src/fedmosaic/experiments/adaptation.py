"""Fast adaptation: does what the federation learned help on a task that nobody trained on?

The published experiment: docs/method-facts.md#fast-adaptation.

The clients' adapters are merged into one start per architecture (conventional weights: mean over the clients of the
architecture; Co-LoRA's P and Q: mean over all clients) and fine-tuned on the new task, against the untrained adapter.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedmosaic import events
from fedmosaic.adapters import is_shared
from fedmosaic.config import ClientSpec
from fedmosaic.experiments.local_training import train_locally
from fedmosaic.federation.runtime import ClientRuntime
from fedmosaic.training import ClientState

STEPS = (0, 10, 25, 50, 100, 150, 200)


@dataclass(frozen=True)
class Adaptation:
    """Mean test scores over architectures and seeds at each number of steps.

    Attributes:
        task: the new task.
        merged: steps -> score, from the merged adapters.
        scratch: steps -> score, from the untrained adapter; empty if it was left out.
    """

    task: str
    merged: dict[int, float]
    scratch: dict[int, float]

    def as_json(self) -> dict[str, Any]:
        """For ``adapt/TASK.json``."""
        return {"task": self.task, "merged": self.merged, "scratch": self.scratch}


def adapt(
    runtime: ClientRuntime,
    task_name: str,
    *,
    rounds: int,
    seeds: int,
    steps: Sequence[int] = STEPS,
    scratch: bool = True,
) -> Adaptation:
    """Return the scores of fine-tuning on a task from the merged adapters of a run, and from scratch.

    Args:
        runtime: of the run, whose folder holds the clients' final states.
        task_name: the new task.
        rounds: the run's last round.
        seeds: orders of the samples to average over.
        steps: where to measure.
        scratch: whether to train the untrained adapter too.
    """
    assets, adapters = runtime.assets, runtime.adapters
    scenario, method = assets.settings.scenario, assets.method
    runtime.inputs.check(models=scenario.models)
    task = assets.benchmark.task(task_name)
    assets.pool.prepare(scenario.models, [*task.train, *task.test])
    slot = method.communicated or method.slots[0].name
    curves: dict[str, list[dict[int, float]]] = {"merged": [], "scratch": []}
    states = {spec.id: runtime.states.after(spec, rounds) for spec in scenario.clients}
    alike: dict[str, list[ClientSpec]] = {}
    for client in scenario.clients:
        alike.setdefault(assets.pool.known(client.model).architecture, []).append(client)
    total = len(alike) * seeds * (1 + scratch)
    for number, clients in enumerate(alike.values()):
        spec = clients[0].model_copy(update={"start": ""})  # a newcomer brings no LoRA
        scratch_start = adapters.start(spec)
        starts = {"merged": merged_start(scratch_start, slot, states, {client.id for client in clients})}
        if scratch:
            starts["scratch"] = scratch_start
        for seed in range(seeds):
            for turn, (name, start) in enumerate(starts.items()):
                events.work("trainings", (number * seeds + seed) * len(starts) + turn, total)
                scores = train_locally(
                    assets, adapters, spec, task, start=start, slot=slot, measure_at=steps, seed=seed
                )
                curves[name].append({step: score[task_name] for step, score in scores.items()})
    means = {
        name: {step: statistics.fmean(curve[step] for curve in several) for step in (steps if several else ())}
        for name, several in curves.items()
    }
    return Adaptation(task_name, **means)


def merged_start(
    start: ClientState, slot: str, states: Mapping[int, ClientState], alike: Collection[int]
) -> ClientState:
    """Return the state of a newcomer who starts from the mean of all clients' weights.

    Args:
        start: of a client of the newcomer's architecture that has not trained.
        slot: whose tensors are averaged; all else is that of the start.
        states: of the clients, by id.
        alike: ids of the clients of the newcomer's architecture.
    """
    merged = {}
    for name in start.slots[slot]:
        holders = [
            state.slots[slot][name]
            for client, state in states.items()
            if name in state.slots.get(slot, {}) and (is_shared(name) or client in alike)
        ]
        merged[name] = torch.stack(holders).mean(0)
    return start.with_slots({slot: merged})
