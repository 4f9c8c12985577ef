"""Methods x seeds on one scenario: what is to be run, running it, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.api.background import run_all
from fedmosaic.api.comparison import Comparison
from fedmosaic.api.executing import execute_all
from fedmosaic.api.methods import MethodChoice, name_of
from fedmosaic.api.objects import Objects
from fedmosaic.api.placing import placed
from fedmosaic.api.preparing import prepare
from fedmosaic.api.settings import check_comparison, check_shared, overrides_of, scenario_of
from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.api.watching import teller
from fedmosaic.config import RunSettings, Scenario, resolve
from fedmosaic.data.in_memory import Picture
from fedmosaic.data.sample import Task
from fedmosaic.errors import SettingsError
from fedmosaic.experiments import comparison
from fedmosaic.experiments.equal_flops import EqualFlops
from fedmosaic.experiments.sweep import Plan, at_best_rates, plan, rate_plans, rate_scores, take_finished, variants
from fedmosaic.experiments.sweep_file import Sweep
from fedmosaic.experiments.variant import method_and_changes
from fedmosaic.federation import divided
from fedmosaic.federation.name_checks import check_names
from fedmosaic.models.from_module import OwnModel
from fedmosaic.registry import METHODS
from fedmosaic.report import comparison_page
from fedmosaic.trackers import make_trackers

_METHODS = ("fedmosaic", "sft", "fedavg")

Execute = Callable[[Sequence[Plan], Callable[[], object]], None]
"""Runs what is not done yet of some plans; calls the function after each."""


def compare(
    scenario: Scenario | str | Path | None = None,
    *,
    methods: Sequence[MethodChoice] | None = None,
    seeds: Sequence[int] | None = None,
    budget: str | None = None,
    rates: Sequence[float] | Path | None = None,
    out: Path | str | None = None,
    finished: Path | str | None = None,
    rounds: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    sweep: Path | str | None = None,
    tasks: Sequence[Task] = (),
    images: Mapping[str, Picture] | None = None,
    models: Mapping[str, OwnModel] | None = None,
    track: Sequence[str] = (),
    jobs: int = 1,
    progress: bool = False,
) -> Comparison:
    """Run the given methods with each seed and compare them, as ``fedmosaic compare`` does; call again to go on.

    Args:
        scenario: a name, a file, or a :class:`Scenario`; default: the sweep file's, else ``demo``. So for all below.
        methods: names, variants (``fedmosaic:gate=false``), or :class:`Method` classes; default: fedmosaic, sft,
            fedavg.
        seeds: of everything random; default: 0, 1, 2.
        budget: equal ``steps``, the default, or equal ``flops`` (those of sft's steps).
        rates: factors of the learning rates to choose from on validation samples of the first seed, or the
            ``comparison.json`` of a comparison that has chosen.
        out: the folder; runs in it that are done or begun are kept. Default: ``runs/compare``, or ``runs/NAME`` of the
            sweep file.
        finished: folder of another comparison; what it finished with the same settings is not run again.
        rounds: communication rounds.
        device: where models compute: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; default: ``auto``.
        settings: any settings by dotted keys, in addition to the sweep file's.
        sweep: a TOML file that says all this (docs/compare.md).
        tasks: instead of the scenario's data; so are ``images`` and ``models``, see :func:`fedmosaic.run`.
        images: see ``tasks``.
        models: see ``tasks``.
        track: names of the trackers of each run.
        jobs: 1: one run after the other, in this process; more: so many at once in processes of their own, which can
            be given no objects and no method classes. A script must then start below ``if __name__ == "__main__":``.
        progress: whether to print what is done.

    Returns:
        The comparison in its folder.

    Raises:
        FedMosaicError: something cannot be run (nothing is run then), or a run failed.
    """
    asked = Sweep(methods=_METHODS) if sweep is None else Sweep.read(Path(sweep))
    place = Path("runs") / ("compare" if sweep is None else Path(sweep).stem) if out is None else Path(out)
    chosen = asked.methods if methods is None else methods
    objects = Objects(tasks, images or {}, models or {})
    if jobs > 1 and (objects or not all(isinstance(each, str) for each in chosen)):
        raise SettingsError(f"jobs={jobs}: objects and method classes cannot be given to other processes; use jobs=1")
    names = [name_of(each) for each in chosen]
    for name in names:
        METHODS.check(method_and_changes(name)[0])
    make_trackers(track)  # that they can be made
    overrides = [*asked.overrides(), *overrides_of(settings)]
    check_shared(overrides)
    base = resolve(
        objects.named_in(scenario_of(asked.scenario if scenario is None else scenario)),
        overrides=overrides,
        rounds=asked.rounds if rounds is None else rounds,
        device=device,
    )
    tell = teller(progress=progress)

    def execute(plans: Sequence[Plan], after_each: Callable[[], object]) -> None:
        if jobs == 1:
            execute_all(plans, objects=objects, track=track, after_each=after_each)
        else:
            run_all(plans, jobs=jobs, track=track, after_each=after_each)

    given = asked.rates if rates is None else rates
    found = compared(
        placed(divided(base, objects.assets), tell=tell),
        names,
        seeds=list(asked.seeds if seeds is None else seeds),
        budget=asked.budget if budget is None else budget,
        rates=Path(given) if isinstance(given, str) else given,
        out=place,
        finished=None if finished is None else Path(finished),
        objects=objects,
        execute=execute,
        tell=tell,
    )
    for line in [*comparison.outside_budget(found), *comparison.over_fewer_clients(found)]:
        tell.note(f"warning: {line}")
    return Comparison(place)


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
    check_comparison(budget, finished)
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
