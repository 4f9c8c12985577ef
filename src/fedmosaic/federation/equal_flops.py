"""As many steps for each method as spend what local training spends: in the whole run, the server included.

A budget is the FLOPs of ``sft`` with the comparison's settings and the run's seed. What a run will spend is counted by
a rehearsal with base models that compute nothing (docs/decisions/0013-equal-flops.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.federation.files import write_atomically
from fedmosaic.federation.plans import Plan
from fedmosaic.federation.rehearsal import rehearse, still

WINDOW = (0.97, 1.0)
"""Shares of its budget between which a finished run must have spent."""

_NEAR = 0.985  # a share of the budget with which the search is content
_AIM = 0.995
_MOST = 0.999  # a thousandth is left for what a run leaves to chance, e.g. which questions it embeds
_INTERPOLATIONS = 6


@dataclass(frozen=True)
class Allowance:
    """What one run may spend, what it will, and the steps per round with which it does."""

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

        Raises:
            SettingsError: a variant spends more than the budget with one step in each round; all such are named.
        """
        too_dear: dict[str, float] = {}
        for seed in seeds:
            local = _seeded(self._local, seed)
            for name, settings in chosen.items():
                found = self._allowance(local, _seeded(settings, seed))
                self._allowances[name, seed] = found
                self._say(
                    f"{name}, seed {seed}: {found.steps:g} steps a round, {100 * found.share:.1f} % of the budget"
                )
                if found.share > 1:
                    too_dear[name] = max(found.share, too_dear.get(name, 0.0))
        if too_dear:
            raise SettingsError(_too_dear(too_dear, self._local.training.steps))
        write_atomically(self._path, json.dumps({key: vars(each) for key, each in self._kept.items()}, indent=1))

    def applied(self, plan: Plan) -> Plan:
        """The run with the steps that were counted for it."""
        found = self._allowances[plan.variant, plan.seed]
        return replace(plan, settings=with_steps(plan.settings, found.steps), allowed=found.allowed)

    def _allowance(self, local: RunSettings, settings: RunSettings) -> Allowance:
        key = f"{settings.digest} within {local.digest}"
        if key not in self._kept and settings == local:
            spent = flops_of_run(local)
            self._kept[key] = Allowance(spent, spent, local.training.steps)
        elif key not in self._kept:
            allowed = self._allowance(local, local).allowed
            self._kept[key] = Allowance(allowed, *_fitted_run(settings, allowed))
        return self._kept[key]


def fitted(count: Callable[[float], float], start: float, allowed: float) -> tuple[float, float]:
    """Search the steps per round, in hundredths, that spend almost all that is allowed.

    Args:
        count: steps -> FLOPs, about linear.
        start: tried first.
        allowed: FLOPs.

    Returns:
        FLOPs and steps: nothing between them and the budget if the search is not content before; what one step costs
        if that is too much.
    """
    within: tuple[int, float] | None = None
    over: tuple[int, float] | None = None
    at = round(100 * start)
    for tries in range(1, 1000):
        spent = count(at / 100)
        if math.isclose(spent, allowed, rel_tol=1e-9) or (spent > _MOST * allowed and at == 100):
            return spent, at / 100
        if spent > _MOST * allowed:
            over = at, spent
        else:
            within = at, spent
        closed = over[0] == (within[0] if within else 0) + 1 if over else tries > _INTERPOLATIONS  # costs do not grow
        if within and (within[1] >= _NEAR * allowed or closed):
            return within[1], within[0] / 100
        at = _next(within, over, _AIM * allowed, interpolate=tries <= _INTERPOLATIONS)
    raise AssertionError("every try halves what is left")


def _next(within: tuple[int, float] | None, over: tuple[int, float] | None, aim: float, *, interpolate: bool) -> int:
    """Where to look next, in hundredths: between the two if there are two, else as if costs grew with the steps."""
    if within is None or over is None:
        at, spent = within or over or (100, aim)
        guess = math.floor(at * aim / spent)
        return max(guess, at + 1) if over is None else max(100, min(guess, at - 1))
    (low, less), (high, more) = within, over
    guess = low + math.floor((high - low) * (aim - less) / (more - less)) if interpolate else (low + high) // 2
    return min(max(guess, low + 1), high - 1)


def flops_of_run(settings: RunSettings) -> float:
    """FLOPs of a whole run, all clients and the server, as its results will say; by a rehearsal."""
    return sum(each.flops for each in rehearse(still(settings)))


def _fitted_run(settings: RunSettings, allowed: float) -> tuple[float, float]:
    machine = still(settings)  # one for all tries: models are loaded and samples are read only once

    def count(steps: float) -> float:
        machine.settings = with_steps(settings, steps)
        return sum(each.flops for each in rehearse(machine))

    return fitted(count, settings.training.steps, allowed)


def with_steps(settings: RunSettings, steps: float) -> RunSettings:
    """The settings with other steps per round; a whole number stays one."""
    steps = int(steps) if steps == int(steps) else steps
    return settings.model_copy(update={"training": settings.training.model_copy(update={"steps": steps})})


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
