"""Several methods on one scenario over several seeds, under one budget, and what came out."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.evaluation.statistics import mean_interval
from fedmosaic.federation.files import write_atomically
from fedmosaic.federation.participant import Machine, Participant
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.workbench import Workbench
from fedmosaic.methods.base import Uploads

_SCORES = {
    "self_last": ("self", "last"),
    "self_auc": ("self", "auc"),
    "others_last": ("others", "last"),
    "others_auc": ("others", "auc"),
    "unseen": ("unseen", "last"),
}
_COSTS = ("flops", "bytes_up", "seconds")


@dataclass(frozen=True)
class Plan:
    """One run of a comparison."""

    method: str
    seed: int
    settings: RunSettings
    path: Path


def plan(base: RunSettings, *, methods: Sequence[str], seeds: Sequence[int], budget: str, out: Path) -> list[Plan]:
    """Lay out all runs; those of one seed come together, so that partial results compare like with like.

    Args:
        base: settings of all runs but for method, seed and, at equal FLOPs, steps.
        methods: names of the methods.
        seeds: of the runs.
        budget: ``steps``: every method takes as many steps; ``flops``: as many as cost what sft's steps cost.
        out: the comparison's folder.
    """
    chosen = {method: base.model_copy(update={"method": method, "method_settings": {}}) for method in methods}
    if budget == "flops":
        chosen = {method: _at_equal_flops(settings) for method, settings in chosen.items()}
    return [
        Plan(method, seed, settings.model_copy(update={"seed": seed}), out / f"{method}-seed{seed}")
        for seed in seeds
        for method, settings in chosen.items()
    ]


def _at_equal_flops(settings: RunSettings) -> RunSettings:
    """The settings with as many local steps as cost no more than sft's."""
    steps = settings.training.steps
    allowed = flops_per_round(settings.model_copy(update={"method": "sft", "method_settings": {}}))
    while steps > 1 and flops_per_round(_with_steps(settings, steps)) > allowed:
        cost = flops_per_round(_with_steps(settings, steps))
        steps = min(steps - 1, max(1, math.floor(steps * allowed / cost)))
    return _with_steps(settings, steps)


def _with_steps(settings: RunSettings, steps: int) -> RunSettings:
    return settings.model_copy(update={"training": settings.training.model_copy(update={"steps": steps})})


def flops_per_round(settings: RunSettings) -> float:
    """FLOPs of one round, the server's included, counted by running it once with one client of each base model."""
    machine, workbench = Machine(settings, Path("unused")), Workbench(settings)
    total, uploads = 0.0, []
    for model in settings.scenario.models:
        clients = [spec.id for spec in settings.scenario.clients if spec.model == model]
        upload, meter = Participant(machine, clients[0]).dry_round()
        total += len(clients) * meter.flops
        uploads += [replace(upload, client=client) for client in clients]
    workbench.aggregate(Uploads(uploads), {}, 2)
    return total + workbench.spent.flops


def compare(plans: Sequence[Plan], *, budget: str) -> dict[str, Any]:
    """Return the content of ``comparison.json``: means and 95 % intervals over seeds, of the runs that are done."""
    rows = []
    for method in dict.fromkeys(each.method for each in plans):
        results = [found for each in plans if each.method == method and (found := RunFolder(each.path).results())]
        if results:
            rows.append({"method": method, "runs": len(results), **_row(results)})
    done = [found for each in plans if (found := RunFolder(each.path).results())]
    initial = {name: _interval([each["initial"][name] for each in done]) for name in ("self", "others")}
    seeds = sorted({each.seed for each in plans})
    return {"budget": budget, "seeds": seeds, "initial": initial, "rows": rows}


def _row(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, (part, key) in _SCORES.items():
        values = [each[part][key] for each in results if each.get(part)]
        row[name] = _interval(values)
    return row | {name: sum(each[name] for each in results) / len(results) for name in _COSTS}


def _interval(values: Sequence[float | None]) -> dict[str, float | None] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean, half = mean_interval(known)
    return {"mean": mean, "ci95": None if math.isnan(half) else half}


def write_comparison(folder: Path, comparison: Mapping[str, Any]) -> None:
    """Write ``comparison.json`` and ``comparison.csv``."""
    write_atomically(folder / "comparison.json", json.dumps(comparison, indent=2) + "\n")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", *(f"{name}_{part}" for name in _SCORES for part in ("mean", "ci95")), *_COSTS])
    for row in comparison["rows"]:
        cells = [(row[name] or {}).get(part) for name in _SCORES for part in ("mean", "ci95")]
        writer.writerow([row["method"], *cells, *(row[name] for name in _COSTS)])
    write_atomically(folder / "comparison.csv", text.getvalue())
