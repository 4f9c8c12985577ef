"""The runs of a comparison: methods and variants of them, seeds and learning rates."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedmosaic.config import RunSettings, varied
from fedmosaic.errors import SettingsError
from fedmosaic.experiments.variant import method_and_changes
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.input_digests import InputDigests
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.io import folder_written_atomically
from fedmosaic.methods.registry import setting_names
from fedmosaic.nearest import hint


@dataclass(frozen=True)
class Plan:
    """One run of a comparison.

    Attributes:
        variant: a method's name, or ``name:key=value:...`` with settings that differ from its defaults.
        seed: of the run.
        settings: of the run, with this seed.
        path: its run folder.
        allowed: FLOPs that the run may spend, all clients and the server together; None: any.
    """

    variant: str
    seed: int
    settings: RunSettings
    path: Path
    allowed: float | None = None

    @property
    def method(self) -> str:
        """Name of the method that this is a variant of."""
        return self.settings.method


def variants(base: RunSettings, names: Sequence[str]) -> dict[str, RunSettings]:
    """Return the settings of each variant.

    Args:
        base: settings of all runs but for the method; settings of methods are those of every method that has them.
        names: ``fedmosaic``, ``fedmosaic:relevance=uniform``, ``fedmosaic:adapter.alignment=none:gate=false``; a key
            without a dot is one of the method's own settings.

    Raises:
        SettingsError: no method has a setting, or its value is unusable.
    """
    chosen, known = {}, set[str]()
    for name in names:
        method, changes = method_and_changes(name)
        known |= (own := set(setting_names(method)))
        shared = {key: value for key, value in base.method_settings.items() if key in own}
        plain = base.model_copy(update={"method": method, "method_settings": shared})
        chosen[name] = varied(plain, [_dotted(change) for change in changes])
    if unknown := sorted(base.method_settings.keys() - known):
        raise SettingsError(
            f"method.{unknown[0]} is given for all runs, and none of {', '.join(names)} has such a setting; "
            f"{hint(unknown[0], sorted(known))}leave it out"
        )
    return chosen


def _dotted(change: str) -> str:
    return change if "." in change.partition("=")[0] else f"method.{change}"


def plan(chosen: Mapping[str, RunSettings], *, seeds: Sequence[int], out: Path) -> list[Plan]:
    """Return all runs, ordered by seed, so that partial results compare like with like.

    Args:
        chosen: settings by variant.
        seeds: of the runs.
        out: the parent of the run folders.
    """
    return [
        Plan(name, seed, settings.model_copy(update={"seed": seed}), out / f"{_file_name(name)}-seed{seed}")
        for seed in seeds
        for name, settings in chosen.items()
    ]


def _file_name(variant: str) -> str:
    return variant.replace(":", "-").replace("/", "_")


def check_begun(plans: Sequence[Plan], assets: AssetsOf = Assets) -> None:
    """Check that the runs that have started are those of the plans, on the data and models that are there now.

    Args:
        plans: the runs.
        assets: opens what they read.

    Raises:
        SettingsError: a folder holds another run.
        DataError: data or models have changed since a run began, so it cannot be compared with those to come.
    """
    notes: dict[str, InputDigests] = {}  # by variant, whose runs read the same
    for each in plans:
        if (each.path / "settings.toml").is_file():
            folder = RunFolder.resume(each.path, each.settings)
            note = notes.setdefault(each.variant, InputDigests.of(assets(each.settings), folder.client_folder))
            note.beside(folder.client_folder).check_all()


def take_finished(plans: Sequence[Plan], earlier: Path, assets: AssetsOf = Assets) -> list[Plan]:
    """Copy the runs that another comparison has finished with the same settings; return those that were taken.

    Args:
        plans: what is to be run; what has begun is left alone.
        earlier: folder of the other comparison.
        assets: opens what the runs read.

    Raises:
        DataError: data or models have changed since such a run began.
    """
    taken = {}
    for each in plans:
        done = RunFolder(earlier / each.path.name)
        if not each.path.exists() and done.results() and done.settings.digest == each.settings.digest:
            taken[done.path] = each
    check_begun([replace(each, path=path) for path, each in taken.items()], assets)
    for path, each in taken.items():
        with folder_written_atomically(each.path) as folder:
            shutil.copytree(path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    return list(taken.values())


# ---- learning rates --------------------------------------------------------------------------------------------------


def rate_plans(
    chosen: Mapping[str, RunSettings], *, factors: Sequence[float], seed: int, out: Path
) -> dict[str, dict[float, Plan]]:
    """Return runs that score each variant with all its learning rates times each factor, on validation samples.

    Args:
        chosen: settings by variant.
        factors: of the learning rates.
        seed: of the runs.
        out: the parent of the run folders.

    Returns:
        Variant -> factor -> run.
    """
    return {
        name: {
            factor: Plan(name, seed, _validated(settings, factor, seed), out / f"{_file_name(name)}-rates-x{factor:g}")
            for factor in factors
        }
        for name, settings in chosen.items()
    }


def _validated(settings: RunSettings, factor: float, seed: int) -> RunSettings:
    how = settings.evaluation.model_copy(update={"split": "validation", "milestones": 1})
    return settings.with_rates(factor).model_copy(update={"seed": seed, "evaluation": how})


def rate_scores(plans: Mapping[float, Plan]) -> dict[float, float]:
    """Return factor -> mean of the final Self and Others, for the runs that are finished.

    Args:
        plans: the runs of one variant by factor.
    """
    scores = {}
    for factor, each in plans.items():
        if results := RunFolder(each.path).results():
            parts = [part.last for part in (results.self_, results.others) if part]
            scores[factor] = sum(parts) / len(parts)
    return scores


def at_best_rates(
    chosen: Mapping[str, RunSettings], scores: Mapping[str, Mapping[float, float]]
) -> dict[str, RunSettings]:
    """Return each variant's settings with its learning rates times its best factor; unchanged where none was tried.

    Args:
        chosen: settings by variant.
        scores: variant -> factor -> validation score.
    """
    return {name: settings.with_rates(best_rate(scores.get(name, {}))) for name, settings in chosen.items()}


def best_rate(scores: Mapping[float, float]) -> float:
    """Return the factor of the learning rates with the highest score; 1 where none was tried.

    Args:
        scores: by factor.
    """
    return max(scores, key=scores.__getitem__, default=1.0)
