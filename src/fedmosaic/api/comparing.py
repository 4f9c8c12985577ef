"""Methods x seeds on one scenario: what is to be run, running it, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.api.background import run_all
from fedmosaic.api.executing import execute_all
from fedmosaic.api.methods import MethodChoice, name_of
from fedmosaic.api.objects import Objects
from fedmosaic.api.preparing import prepare
from fedmosaic.api.settings import overrides_of, scenario_of
from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.api.watching import teller
from fedmosaic.config import RunSettings, Scenario, resolve
from fedmosaic.data.in_memory import Picture
from fedmosaic.data.sample import Task
from fedmosaic.errors import SettingsError
from fedmosaic.experiments import comparison
from fedmosaic.experiments.equal_flops import EqualFlops
from fedmosaic.experiments.sweep import (
    Plan,
    at_best_rates,
    plan,
    rate_plans,
    rate_scores,
    take_finished,
    variants,
)
from fedmosaic.federation import divided
from fedmosaic.federation.name_checks import check_names
from fedmosaic.models.from_module import OwnModel
from fedmosaic.nearest import hint
from fedmosaic.report import comparison_page

Execute = Callable[[Sequence[Plan], Callable[[], object]], None]
"""Runs what is not done yet of some plans; calls the function after each."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and half the width of its 95 % interval, which a single seed does not give."""

    mean: float
    ci95: float | None


@dataclass(frozen=True)
class Against:
    """The difference to the best other method, paired over seeds and tasks, with its 95 % interval."""

    rival: str
    mean: float
    low: float
    high: float
    significant: bool


@dataclass(frozen=True)
class Row:
    """What a method, or a variant of one, came to; means over the seeds that are done.

    Attributes:
        method: the method, or the variant.
        runs: how many seeds are done.
        self_last, others_last: after the last round, in [0, 1].
        self_auc, others_auc: over the milestones.
        unseen: on tasks that no client trained on; None until that is measured.
        self_against, others_against: None without a rival.
        flops: of a whole run.
        bytes_up, bytes_down: of one message.
        seconds: of a whole run.
    """

    method: str
    runs: int
    self_last: Interval | None
    self_auc: Interval | None
    others_last: Interval | None
    others_auc: Interval | None
    unseen: Interval | None
    self_against: Against | None
    others_against: Against | None
    flops: float
    bytes_up: float
    bytes_down: float
    seconds: float


class Comparison:
    """The comparison in a folder.

    Args:
        path: holds ``comparison.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Comparison({str(self.path)!r})"

    @property
    def rows(self) -> list[Row]:
        """One row for each method or variant that has a finished run, in the order in which they were asked for."""
        return [_row(each) for each in self._table["rows"]]

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return list(self._table["seeds"])

    @property
    def budget(self) -> str:
        """What was equal: ``steps`` or ``flops``."""
        return str(self._table["budget"])

    def row(self, method: str) -> Row:
        """Return the row of a method or variant.

        Raises:
            SettingsError: there is none; names the nearest.
        """
        rows = {each.method: each for each in self.rows}
        if method not in rows:
            raise SettingsError(
                f"the comparison has no {method!r}; {hint(method, rows)}it has: {', '.join(rows) or 'nothing yet'}"
            )
        return rows[method]

    def report(self) -> Path:
        """Return the path of ``comparison.html``."""
        return self.path / "comparison.html"

    @property
    def _table(self) -> dict[str, Any]:
        try:
            table: dict[str, Any] = json.loads((self.path / "comparison.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise SettingsError(f"{self.path} holds no comparison; make one with fedmosaic.compare") from None
        return table


def _row(table: Mapping[str, Any]) -> Row:
    scores = ("self_last", "self_auc", "others_last", "others_auc", "unseen")
    against = {f"{part}_against": table["against_rivals"][part] for part in comparison.PARTS}
    cells: dict[str, Any] = {
        **{name: Interval(**table[name]) if table[name] else None for name in scores},
        **{name: Against(**found) if found else None for name, found in against.items()},
        **{name: table[name] for name in ("flops", "bytes_up", "bytes_down", "seconds")},
    }
    return Row(method=table["method"], runs=table["runs"], **cells)


def compare(
    scenario: Scenario | str | Path = "demo",
    *,
    methods: Sequence[MethodChoice] = ("fedmosaic", "sft", "fedavg"),
    seeds: Sequence[int] = (0, 1, 2),
    budget: str = "steps",
    rates: Sequence[float] | Path = (),
    out: Path | str = Path("runs/compare"),
    finished: Path | str | None = None,
    rounds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    tasks: Sequence[Task] = (),
    images: Mapping[str, Picture] | None = None,
    models: Mapping[str, OwnModel] | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Comparison:
    """Run all methods with all seeds and compare them, as ``fedmosaic compare`` does; call again to go on.

    Args:
        scenario: a name, a file, or a :class:`Scenario`.
        methods: names, variants (``fedmosaic:gate=false``), or :class:`Method` classes.
        seeds: of everything random.
        budget: equal ``steps``, or equal ``flops`` (those of sft's steps).
        rates: factors of the learning rates to choose from on validation samples of the first seed, or the
            ``comparison.json`` of a comparison that has chosen.
        out: the folder; runs in it that are done or begun are kept.
        finished: folder of another comparison; what it finished with the same settings is not run again.
        rounds: communication rounds.
        settings: any settings by dotted keys.
        tasks: instead of the scenario's data; so are ``images`` and ``models``, see :func:`fedmosaic.run`.
        images: see ``tasks``.
        models: see ``tasks``.
        jobs: 1: one run after the other, in this process; more: so many at once in processes of their own, which can
            be given no objects and no method classes. A script must then start below ``if __name__ == "__main__":``.
        progress: whether to print what is done.

    Raises:
        FedMosaicError: something cannot be run (nothing is run then), or a run failed.
    """
    objects = Objects(tasks, images or {}, models or {})
    classes = [each for each in methods if not isinstance(each, str)]
    if jobs > 1 and (objects or classes):
        raise SettingsError(f"jobs={jobs}: objects and method classes cannot be given to other processes; use jobs=1")
    chosen = objects.named_in(scenario_of(scenario))
    base = divided(resolve(chosen, overrides=overrides_of(settings), rounds=rounds), objects.assets)
    tell = teller(progress=progress)

    def execute(plans: Sequence[Plan], after_each: Callable[[], object]) -> None:
        if jobs == 1:
            execute_all(plans, objects=objects, after_each=after_each)
        else:
            run_all(plans, jobs=jobs, after_each=after_each)

    found = compared(
        base,
        [name_of(each) for each in methods],
        seeds=list(seeds),
        budget=budget,
        rates=rates,
        out=Path(out),
        finished=None if finished is None else Path(finished),
        objects=objects,
        execute=execute,
        tell=tell,
    )
    for line in comparison.outside_budget(found):
        tell.note(f"warning: {line}")
    return Comparison(Path(out))


def compared(
    base: RunSettings,
    names: Sequence[str],
    *,
    seeds: Sequence[int],
    budget: str,
    rates: Sequence[float] | Path,
    out: Path,
    finished: Path | None,
    execute: Execute,
    objects: Objects | None = None,
    tell: Teller = SILENT,
) -> dict[str, Any]:
    """Lay out all runs of a comparison, run them and write what came out; return the content of ``comparison.json``.

    Args:
        base: settings of all runs but for the method and its settings.
        names: of the methods and variants.
        seeds: of the runs.
        budget: ``steps`` or ``flops``.
        rates: factors of the learning rates to choose from, or a ``comparison.json``.
        out: the folder.
        finished: folder of another comparison.
        execute: runs what is not done.
        objects: what the runs are given as objects.
        tell: shows what takes long.

    Raises:
        FedMosaicError: something cannot be run (nothing is run then), or a run failed.
    """
    if budget not in ("steps", "flops"):
        raise SettingsError(f"--budget {budget!r}: {hint(budget, ('steps', 'flops'))}expected 'steps' or 'flops'")
    if finished and not finished.is_dir():
        raise SettingsError(f"--finished {finished}: no such folder; expected the --out of another comparison")
    assets = (objects or Objects()).assets
    earlier = rates if isinstance(rates, Path) else None
    factors = [] if isinstance(rates, Path) else list(rates)
    chosen = variants(base, names)
    for settings in chosen.values():
        check_names(settings)  # of all, before the first one's data are made
    _check_unlike(chosen)
    scores = comparison.rates_of(earlier, chosen) if earlier else {}
    tried_at = comparison.steps_of_rates(earlier, chosen) if earlier else {}
    for settings in chosen.values():
        prepare(settings, objects=objects, tell=tell)
    budgeted: Callable[[Plan], Plan] = lambda each: each  # noqa: E731
    if budget == "flops":
        if objects:
            raise SettingsError("budget 'flops' cannot be counted for objects yet; use 'steps', or folders")
        equal = EqualFlops(base, kept=out / "equal-flops.json", say=tell.note)
        with tell.working("counting what each run costs"):
            equal.count(chosen, seeds=seeds)
        budgeted = equal.applied
    if factors:
        laid = rate_plans(chosen, factors=factors, seed=seeds[0], out=out / "rates")
        tried = {name: {factor: budgeted(each) for factor, each in found.items()} for name, found in laid.items()}
        tried_at = {name: next(iter(found.values())).settings.training.steps for name, found in tried.items()}
        for by_factor in tried.values():
            prepare(next(iter(by_factor.values())).settings, objects=objects, tell=tell)  # the validation samples
        execute([each for by_factor in tried.values() for each in by_factor.values()], lambda: None)
        scores = {name: rate_scores(by_factor) for name, by_factor in tried.items()}
    chosen = at_best_rates(chosen, scores)
    plans = [budgeted(each) for each in plan(chosen, seeds=seeds, out=out)]
    if earlier and (others := comparison.rates_of_other_steps(tried_at, plans)):
        tell.note(f"learning rates were chosen with other steps per round: {'; '.join(others)}")
    if finished and (taken := take_finished(plans, finished, assets)):
        tell.note(f"{len(taken)} of {len(plans)} runs are taken from {finished}")

    def write() -> dict[str, Any]:
        found = comparison.compare(plans, budget=budget, rates=scores, rates_steps=tried_at)
        comparison.write_comparison(out, found)
        comparison_page(found, plans, out / "comparison.html")
        return found

    execute(plans, write)
    return write()


def _check_unlike(chosen: Mapping[str, RunSettings]) -> None:
    known: dict[str, str] = {}
    for name, settings in chosen.items():
        if (other := known.setdefault(settings.digest, name)) != name:
            raise SettingsError(f"--methods: {other!r} and {name!r} are the same settings; leave one out")
