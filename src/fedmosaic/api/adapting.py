"""Fast adaptation of a finished run to more tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fedmosaic.api.objects import Objects
from fedmosaic.api.opening import open_finished
from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.config import varied
from fedmosaic.errors import SettingsError
from fedmosaic.experiments import adaptation
from fedmosaic.experiments.adaptation import STEPS, Adaptation
from fedmosaic.io import write_atomically
from fedmosaic.report import adaptation_page


def adapt(
    run: Path,
    tasks: Sequence[str],
    *,
    seeds: int = 3,
    steps: Sequence[int] = STEPS,
    overrides: Sequence[str] = (),
    device: str | None = None,
    objects: Objects | None = None,
    tell: Teller = SILENT,
) -> dict[str, Adaptation]:
    """Fine-tune a run's merged adapters on each of some tasks by itself, against an untrained adapter.

    What came out is written to ``adapt/TASK.json`` and ``adapt/TASK.html`` in the run's folder, task by task.

    Args:
        run: folder of a finished run.
        tasks: e.g. unseen ones.
        seeds: orders of the training samples to average over.
        steps: after how many steps to measure; 0 is the start.
        overrides: settings of the training, as ``training.learning_rate=0.01``.
        device: where models compute; default: where they did, or what ``auto`` takes if that is not there.
        objects: what the run was given as objects.
        tell: shows what takes long.

    Returns:
        By task: mean test scores after each number of steps.

    Raises:
        SettingsError: the run is not done, there is no such task, or nothing is to be trained.
        FedMosaicError: data, models or states are missing, or have changed since the run.
    """
    _check_request(steps, overrides)
    runtime = open_finished(run, objects, device=device, change=lambda own: varied(own, list(overrides)))
    settings = runtime.assets.settings
    for task in tasks:
        runtime.assets.benchmark.task(task)  # an unknown one is refused before anything is trained
    found = {}
    for task in tasks:
        with tell.working(f"adapting to {task}: 2 starts x {len(settings.scenario.models)} models x {seeds} seeds"):
            result = adaptation.adapt(runtime, task, rounds=settings.rounds, seeds=seeds, steps=steps)
        target = run / "adapt" / f"{task}.json"
        write_atomically(target, json.dumps(result.as_json(), indent=2) + "\n")
        tell.note(f"page: {adaptation_page(result.as_json(), target.with_suffix('.html'))}")
        found[task] = result
    return found


def _check_request(steps: Sequence[int], overrides: Sequence[str]) -> None:
    """Refuse what cannot be asked of any run."""
    if not steps or min(steps) < 0 or not max(steps):
        given = ",".join(map(str, steps))
        raise SettingsError(f"--steps {given}: expected whole numbers from 0, one of them above 0, as in 0,10,30")
    if other := [each for each in overrides if not each.strip().startswith("training.")]:
        raise SettingsError(f"--set {other[0]}: adaptation reads settings of the training only, as training.batch_size")
