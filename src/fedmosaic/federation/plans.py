"""The runs of a comparison: methods and variants of them, seeds, budgets and learning rates."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedmosaic.config import RunSettings, varied
from fedmosaic.federation.files import folder_written_atomically
from fedmosaic.federation.machine import Machine
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.workbench import Workbench
from fedmosaic.methods.base import Uploads


@dataclass(frozen=True)
class Plan:
    """One run of a comparison."""

    variant: str
    """A method's name, or ``name:key=value:...`` with settings that differ from its defaults."""
    seed: int
    settings: RunSettings
    path: Path

    @property
    def method(self) -> str:
        """Name of the method that this is a variant of."""
        return self.settings.method


def variants(base: RunSettings, names: Sequence[str]) -> dict[str, RunSettings]:
    """The settings of each variant.

    Args:
        base: settings of all runs but for the method and its settings.
        names: ``fedmosaic``, ``fedmosaic:relevance=uniform``, ``fedmosaic:adapter.alignment=none:gate=false``; a key
            without a dot is one of the method's own settings.
    """
    chosen = {}
    for name in names:
        method, *changes = name.split(":")
        plain = base.model_copy(update={"method": method, "method_settings": {}})
        chosen[name] = varied(plain, [_dotted(change) for change in changes])
    return chosen


def _dotted(change: str) -> str:
    return change if "." in change.partition("=")[0] else f"method.{change}"


def plan(chosen: Mapping[str, RunSettings], *, seeds: Sequence[int], out: Path) -> list[Plan]:
    """Lay out all runs; those of one seed come together, so that partial results compare like with like."""
    return [
        Plan(name, seed, settings.model_copy(update={"seed": seed}), out / f"{_file_name(name)}-seed{seed}")
        for seed in seeds
        for name, settings in chosen.items()
    ]


def _file_name(variant: str) -> str:
    return variant.replace(":", "-").replace("/", "_")


def take_finished(plans: Sequence[Plan], earlier: Path) -> list[Plan]:
    """Copy the runs that another comparison has finished with the same settings; return those that were taken.

    Args:
        plans: what is to be run; what has begun is left alone.
        earlier: folder of the other comparison.
    """
    taken = []
    for each in plans:
        done = RunFolder(earlier / each.path.name)
        if not each.path.exists() and done.results() and done.settings.digest == each.settings.digest:
            with folder_written_atomically(each.path) as folder:
                shutil.copytree(done.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
            taken.append(each)
    return taken


# ---- learning rates --------------------------------------------------------------------------------------------------


def rate_plans(
    chosen: Mapping[str, RunSettings], *, factors: Sequence[float], seed: int, out: Path
) -> dict[str, dict[float, Plan]]:
    """Lay out runs that score each variant with all its learning rates times each factor, on validation samples."""
    return {
        name: {
            factor: Plan(name, seed, _validated(settings, factor, seed), out / f"{_file_name(name)}-rates-x{factor:g}")
            for factor in factors
        }
        for name, settings in chosen.items()
    }


def _validated(settings: RunSettings, factor: float, seed: int) -> RunSettings:
    how = settings.evaluation.model_copy(update={"split": "validation", "milestones": 1})
    return with_rates(settings, factor).model_copy(update={"seed": seed, "evaluation": how})


def with_rates(settings: RunSettings, factor: float) -> RunSettings:
    """The settings with the adapters' learning rates times ``factor``."""
    training = settings.training
    rates = {"learning_rate": training.learning_rate, "colora_learning_rate": training.colora_learning_rate}
    update = {name: rate * factor for name, rate in rates.items()}
    return settings.model_copy(update={"training": training.model_copy(update=update)})


def rate_scores(plans: Mapping[float, Plan]) -> dict[float, float]:
    """Factor -> mean of the final Self and Others, of the runs that are done."""
    scores = {}
    for factor, each in plans.items():
        if results := RunFolder(each.path).results():
            parts = [results[name]["last"] for name in ("self", "others") if results[name]]
            scores[factor] = sum(parts) / len(parts)
    return scores


def at_best_rates(
    chosen: Mapping[str, RunSettings], scores: Mapping[str, Mapping[float, float]]
) -> dict[str, RunSettings]:
    """The settings of each variant with its learning rates times its best factor; as they are where none was tried."""
    return {name: with_rates(settings, best_rate(scores.get(name, {}))) for name, settings in chosen.items()}


def best_rate(scores: Mapping[float, float]) -> float:
    """The factor of the learning rates with the highest score; 1 where none was tried."""
    return max(scores, key=scores.__getitem__, default=1.0)


# ---- equal FLOPs -----------------------------------------------------------------------------------------------------


def at_equal_flops(chosen: Mapping[str, RunSettings]) -> dict[str, RunSettings]:
    """The settings of each variant with as many local steps as cost no more than sft's."""
    allowed: dict[str, float] = {}  # most variants are compared with the same sft: count it once
    equal = {}
    for name, settings in chosen.items():
        local = settings.model_copy(update={"method": "sft", "method_settings": {}})
        key = local.model_dump_json()
        if key not in allowed:
            allowed[key] = flops_per_round(local)
        equal[name] = settings if settings == local else _within(settings, allowed[key])
    return equal


def _within(settings: RunSettings, allowed: float) -> RunSettings:
    steps = settings.training.steps
    while steps > 1 and (cost := flops_per_round(_with_steps(settings, steps))) > allowed:
        steps = min(steps - 1, max(1, math.floor(steps * allowed / cost)))
    return _with_steps(settings, steps)


def _with_steps(settings: RunSettings, steps: int) -> RunSettings:
    return settings.model_copy(update={"training": settings.training.model_copy(update={"steps": steps})})


def flops_per_round(settings: RunSettings) -> float:
    """FLOPs of one round, the server's included; see :func:`cost_per_round`."""
    return cost_per_round(settings)[0]


def cost_per_round(settings: RunSettings) -> tuple[float, float]:
    """FLOPs and seconds of one round, the server's included, by running it once with one client of each base model."""
    machine, workbench = Machine(settings, Path("unused")), Workbench(settings)
    flops, seconds, uploads = 0.0, 0.0, []
    for model in settings.scenario.models:
        clients = [spec.id for spec in settings.scenario.clients if spec.model == model]
        upload, meter = Participant(machine, clients[0]).dry_round()
        flops, seconds = flops + len(clients) * meter.flops, seconds + len(clients) * meter.seconds
        uploads += [replace(upload, client=client) for client in clients]
    start = time.perf_counter()
    workbench.aggregate(Uploads(uploads), {}, 2)
    return flops + workbench.spent.flops, seconds + time.perf_counter() - start
