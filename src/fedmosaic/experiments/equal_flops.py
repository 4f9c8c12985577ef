"""As many steps for each method as spend what local training spends: in the whole run, the server included.

A budget is the FLOPs of ``sft`` with the comparison's settings and the run's seed. What a run will spend is counted by
a dry run with null models (docs/decisions/0013-equal-flops.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedmosaic.config import RunSettings, whole
from fedmosaic.errors import SettingsError
from fedmosaic.experiments.dry_run import dry_run, with_null_models
from fedmosaic.experiments.sweep import Plan
from fedmosaic.io import write_atomically

WINDOW = (0.97, 1.0)
"""Shares of its budget between which a finished run must have spent."""

_NEAR = 0.985  # a share of the budget with which the search is content
_AIM = 0.995
_MOST = 0.999  # a thousandth is left for what a run leaves to chance, e.g. which questions it embeds
_INTERPOLATIONS = 6  # then the search halves
_ENDLESS = 10
_MOST_TRIES = 30


@dataclass(frozen=True)
class Allowance:
    """The budget of one run.

    Attributes:
        allowed: FLOPs that the run may spend.
        spent: FLOPs that it will spend, by a dry run.
        steps: steps per round with which it does.
    """

    allowed: float
    spent: float
    steps: float

    @property
    def share(self) -> float:
        """What it will spend of what it may."""
        return self.spent / self.allowed


class EqualFlops:
    """The budgets of a comparison's runs.

    Args:
        base: what the variants were made from; with local training it gives the budget.
        kept: file of the counts, so that a comparison that is called again goes on with the same steps.
        say: is told what was counted for each run.
    """

    def __init__(self, base: RunSettings, *, kept: Path, say: Callable[[str], object] = lambda _: None) -> None:
        self._local = base.model_copy(update={"method": "sft", "method_settings": {}})
        self._path = kept
        self._kept = _read(kept)
        self._say = say
        self._allowances: dict[tuple[str, int], Allowance] = {}

    def count(self, chosen: Mapping[str, RunSettings], *, seeds: Sequence[int]) -> None:
        """Find the steps of each variant with each seed.

        Args:
            chosen: settings by variant.
            seeds: of the runs.

        Raises:
            SettingsError: a variant spends more than the budget with one step in each round; all such are named.
        """
        asked = [(name, seed) for seed in seeds for name in chosen]
        runs = {(name, seed): (_seeded(self._local, seed), _seeded(chosen[name], seed)) for name, seed in asked}
        self._refuse_too_dear({at: run for at, run in runs.items() if _key(*run) not in self._kept})
        for (name, seed), run in runs.items():
            found = self._allowances[name, seed] = self._allowance(*run)
            share = f"{100 * found.share:.1f} % of the budget"
            self._say(f"{name}, seed {seed}: {found.steps:g} steps a round, {share}")
            self._keep()

    def _refuse_too_dear(self, runs: Mapping[tuple[str, int], tuple[RunSettings, RunSettings]]) -> None:
        """Count the runs with one step in each round, a small part of the work, before anything is written."""
        shares: dict[str, float] = {}
        for (name, _), (local, settings) in runs.items():
            if settings != local:
                share = flops_of_run(with_steps(settings, 1)) / self._allowance(local, local).allowed
                shares[name] = max(share, shares.get(name, 0.0))
        if too_dear := {name: share for name, share in shares.items() if share > 1}:
            raise SettingsError(_too_dear(too_dear, self._local.training.steps))

    def _keep(self) -> None:
        write_atomically(self._path, json.dumps({key: vars(each) for key, each in self._kept.items()}, indent=1))

    def applied(self, plan: Plan) -> Plan:
        """Return the run with the steps that were found for it.

        Args:
            plan: one of the counted variants and seeds.
        """
        found = self._allowances[plan.variant, plan.seed]
        return replace(plan, settings=with_steps(plan.settings, found.steps), allowed=found.allowed)

    def _allowance(self, local: RunSettings, settings: RunSettings) -> Allowance:
        key = _key(local, settings)
        if key not in self._kept and settings == local:
            spent = flops_of_run(local)
            self._kept[key] = Allowance(spent, spent, local.training.steps)
        elif key not in self._kept:
            allowed = self._allowance(local, local).allowed
            self._kept[key] = Allowance(allowed, *_fitted_run(settings, allowed))
        return self._kept[key]


def fitted(count: Callable[[float], float], start: float, allowed: float) -> tuple[float, float]:
    """Search the steps per round, in hundredths and at least 1, that spend almost all that is allowed.

    Args:
        count: steps -> FLOPs, about linear.
        start: tried first.
        allowed: FLOPs.

    Returns:
        FLOPs and steps: near the budget, or the last ones before it is passed; those of one step if it is too much.
    """
    tried: dict[int, float] = {}
    within, over, at = 99, math.inf, round(100 * start)
    while len(tried) < _MOST_TRIES:
        spent = tried[at] = count(at / 100)
        if math.isclose(spent, allowed, rel_tol=1e-9):
            return spent, at / 100
        within, over = (at, over) if spent <= _MOST * allowed else (within, at)
        endless = over == math.inf and len(tried) >= _ENDLESS  # it spends the same whatever it is allowed
        if endless or over == within + 1 or tried.get(within, 0.0) >= _NEAR * allowed:
            break
        at = _between(within, over, tried, _AIM * allowed)
    last = max(within, 100)
    return tried[last], last / 100


def _between(within: float, over: float, tried: Mapping[int, float], aim: float) -> int:
    """The hundredths to try next: where a straight line through what was tried, or from zero, meets the aim."""
    at = list(tried)[-1]
    if len(tried) >= _INTERPOLATIONS:
        guess = min((within + over) / 2, 2 * at)
    elif within in tried and over in tried:
        low, high = tried[int(within)], tried[int(over)]
        guess = within + (over - within) * (aim - low) / (high - low)
    else:
        guess = min(at * aim / tried[at], 2 * at)
    return int(min(max(guess, within + 1), over - 1))


def flops_of_run(settings: RunSettings) -> float:
    """Return the FLOPs of a whole run, all clients and the server, by a dry run.

    Args:
        settings: of the run.
    """
    return sum(each.flops for each in dry_run(with_null_models(settings)))


def _fitted_run(settings: RunSettings, allowed: float) -> tuple[float, float]:
    assets = with_null_models(settings)  # one for all tries: models are loaded and samples are read only once

    def count(steps: float) -> float:
        return sum(each.flops for each in dry_run(assets.with_settings(with_steps(settings, steps))))

    return fitted(count, settings.training.steps, allowed)


def with_steps(settings: RunSettings, steps: float) -> RunSettings:
    """Return the settings with other steps per round; a whole number stays one.

    Args:
        settings: of a run.
        steps: per round.
    """
    return settings.model_copy(update={"training": settings.training.model_copy(update={"steps": whole(steps)})})


def _key(local: RunSettings, settings: RunSettings) -> str:
    """Of settings; where models compute changes no count."""
    return " within ".join(each.model_copy(update={"device": "auto"}).digest for each in (settings, local))


def _seeded(settings: RunSettings, seed: int) -> RunSettings:
    return settings.model_copy(update={"seed": seed})


def _too_dear(shares: Mapping[str, float], steps: float) -> str:
    dear = ", ".join(f"{name} {share:.2f} times" for name, share in shares.items())
    return (
        f"--budget flops: even with one step in each round a run would spend more than sft's with {steps:g} steps: "
        f"{dear} as much; leave {'it' if len(shares) == 1 else 'them'} out, or allow more: "
        f"--set training.steps={math.ceil(steps * max(shares.values())) + 1}"
    )


def _read(path: Path) -> dict[str, Allowance]:
    try:
        return {key: Allowance(**each) for key, each in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # counted anew
