"""Fast adaptation: does what the federation learned help on a task that nobody trained on?

The published experiment: docs/method-facts.md#fast-adaptation.

The clients' adapters are merged into one start per architecture (conventional weights: mean over the clients of the
architecture; Co-LoRA's P and Q: mean over all clients) and fine-tuned on the new task, against the untrained adapter.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedmosaic import events
from fedmosaic.adapters import is_shared
from fedmosaic.config import ClientSpec
from fedmosaic.experiments.local_training import train_locally
from fedmosaic.federation.runtime import Runtime

STEPS = (0, 10, 25, 50, 100, 150, 200)


@dataclass(frozen=True)
class Adaptation:
    """Mean test score over architectures and seeds at each number of steps; empty for a start that was left out."""

    task: str
    merged: dict[int, float]
    scratch: dict[int, float]

    def as_json(self) -> dict[str, Any]:
        """For ``adapt/TASK.json``."""
        return {"task": self.task, "merged": self.merged, "scratch": self.scratch}


def adapt(
    machine: Runtime,
    task_name: str,
    *,
    rounds: int,
    seeds: int,
    steps: Sequence[int] = STEPS,
    scratch: bool = True,
) -> Adaptation:
    """Fine-tune on a task from the merged adapters of a run, and from scratch.

    Args:
        machine: of the run; its folder holds the clients' final states.
        task_name: the new task.
        rounds: the run's last round.
        seeds: orders of the samples to average over.
        steps: where to measure.
        scratch: whether to train the untrained adapter too.
    """
    machine.inputs.check(models=machine.settings.scenario.models)
    task = machine.benchmark.task(task_name)
    machine.pool.prepare(machine.settings.scenario.models, [*task.train, *task.test])
    slot = machine.method.communicated or machine.method.slots[0].name
    curves: dict[str, list[dict[int, float]]] = {"merged": [], "scratch": []}
    states = {spec.id: machine.state_after(spec, rounds) for spec in machine.settings.scenario.clients}
    specs = _one_per_model(machine)
    total = len(specs) * seeds * (1 + scratch)
    for number, spec in enumerate(specs):
        starts = {"merged": merged_start(machine, spec, slot, states)}
        if scratch:
            starts["scratch"] = machine.start(spec)
        for seed in range(seeds):
            for turn, (name, start) in enumerate(starts.items()):
                events.work("trainings", (number * seeds + seed) * len(starts) + turn, total)
                scores = train_locally(machine, spec, task, start=start, slot=slot, measure_at=steps, seed=seed)
                curves[name].append({step: score[task_name] for step, score in scores.items()})
    means = {
        name: {step: statistics.fmean(curve[step] for curve in several) for step in (steps if several else ())}
        for name, several in curves.items()
    }
    return Adaptation(task_name, **means)


def merged_start(
    machine: Runtime, spec: ClientSpec, slot: str, states: dict[int, dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The state of a newcomer of this architecture who starts from the mean of what all clients know."""
    model_of = {client.id: client.model for client in machine.settings.scenario.clients}
    start = dict(machine.start(spec))
    for key in start:
        part, _, name = key.partition("|")
        if part != f"slot.{slot}":
            continue
        holders = [
            state[key]
            for client, state in states.items()
            if key in state and (is_shared(name) or model_of[client] == spec.model)
        ]
        start[key] = torch.stack(holders).mean(0)
    return start


def _one_per_model(machine: Runtime) -> list[ClientSpec]:
    clients = machine.settings.scenario.clients
    return [next(client for client in clients if client.model == model) for model in machine.settings.scenario.models]
