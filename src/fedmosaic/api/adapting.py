"""Fast adaptation of a finished run to one more task."""

from __future__ import annotations

import json
from pathlib import Path

from fedmosaic.api.objects import Objects
from fedmosaic.api.opening import open_finished
from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.experiments import adaptation
from fedmosaic.io import write_atomically
from fedmosaic.report import adaptation_page


def adapt(
    run: Path, task: str, *, seeds: int = 3, objects: Objects | None = None, tell: Teller = SILENT
) -> adaptation.Adaptation:
    """Fine-tune a run's merged adapters on one more task, against an untrained adapter, over 0 to 200 steps.

    The outcome is written to ``adapt/TASK.json`` and ``adapt/TASK.html`` in the run's folder.

    Args:
        run: folder of a finished run.
        task: e.g. an unseen one.
        seeds: orders of the training samples to average over.
        objects: what the run was given as objects.
        tell: shows what takes long.

    Raises:
        SettingsError: the run is not done, or there is no such task.
        FedMosaicError: data, models or states are missing, or have changed since the run.
    """
    runtime = open_finished(run, objects)
    settings = runtime.assets.settings
    with tell.working(f"adapting to {task}: 2 starts x {len(settings.scenario.models)} models x {seeds} seeds"):
        result = adaptation.adapt(runtime, task, rounds=settings.rounds, seeds=seeds)
    target = page_of(run, task).with_suffix(".json")
    write_atomically(target, json.dumps(result.as_json(), indent=2) + "\n")
    adaptation_page(result.as_json(), page_of(run, task))
    return result


def page_of(run: Path, task: str) -> Path:
    """Return where the page of an adaptation is written."""
    return run / "adapt" / f"{task}.html"
