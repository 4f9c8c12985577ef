"""Results of several methods on one scenario over several seeds, under one budget."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings, whole
from fedmosaic.errors import SettingsError
from fedmosaic.evaluation import Summary
from fedmosaic.evaluation.statistics import mean_interval
from fedmosaic.experiments.equal_flops import WINDOW
from fedmosaic.experiments.paired import paired_difference, task_weights
from fedmosaic.experiments.sweep import Plan
from fedmosaic.federation.results import RunResults
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.io import write_atomically

_SCORES: Mapping[str, Callable[[RunResults], float | None]] = {
    "self_last": lambda results: results.self_.last if results.self_ else None,
    "self_auc": lambda results: results.self_.auc if results.self_ else None,
    "others_last": lambda results: results.others.last if results.others else None,
    "others_auc": lambda results: results.others.auc if results.others else None,
    "unseen": lambda results: results.unseen.last if results.unseen else None,
    "self_exchanged": lambda results: _last(_PARTS["self_exchanged"](results)),
    "others_exchanged": lambda results: _last(_PARTS["others_exchanged"](results)),
    "unseen_exchanged": lambda results: _last(results.exchanged.unseen) if results.exchanged else None,
}
_COSTS = ("flops", "bytes_up", "bytes_down", "seconds")
PARTS = ("self", "others")
ANSWERS = ("", "_exchanged")
"""Ends of names: after local training, after the last exchange."""
_PARTS: Mapping[str, Callable[[RunResults], Summary | None]] = {
    "self": lambda results: results.self_,
    "others": lambda results: results.others,
    "self_exchanged": lambda results: results.exchanged.self_ if results.exchanged else None,
    "others_exchanged": lambda results: results.exchanged.others if results.exchanged else None,
}
_FAR = 1.2  # steps per round that differ by this factor have other best learning rates
Results = Mapping[int, RunResults]
"""By seed."""


def compare(
    plans: Sequence[Plan],
    *,
    budget: str,
    rates: Mapping[str, Mapping[float, float]] | None = None,
    rates_steps: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the content of ``comparison.json``: means and 95 % intervals over seeds, of the runs that are done.

    ``against_rivals`` of a row holds its difference to the best other method, paired over seeds and tasks, and
    ``against_rivals_exchanged`` the same of what all answer after the last exchange; ``spent`` the least and the most
    of its budget that a run has spent, which is 1 where all of it was.

    Args:
        plans: the runs.
        budget: ``steps`` or ``flops``.
        rates: variant -> factor of the learning rates -> validation score, if they were chosen so.
        rates_steps: variant -> steps per round with which they were tried.
    """
    begun: dict[str, dict[int, RunResults]] = {each.variant: {} for each in plans}  # in the order asked for
    for each in plans:
        if found := RunFolder(each.path).results():
            begun[each.variant][each.seed] = found
    done = {variant: results for variant, results in begun.items() if results}
    methods = {each.variant: each.method for each in plans}
    tasks = {each.variant: each.settings.scenario.tasks_by_client for each in plans}
    rows = [
        {
            "method": variant,
            "runs": len(results),
            "settings": _settings(plans, variant),
            "spent": _spent([each for each in plans if each.variant == variant], results),
            "unmeasured": sum(map(_unmeasured, results.values())),
            **_row(results),
            **{
                f"against_rivals{after}": {
                    part: _against_rivals(variant, done, methods, f"{part}{after}", tasks[variant]) for part in PARTS
                }
                for after in ANSWERS
            },
        }
        for variant, results in done.items()
    ]
    first = {seed: found.initial for results in reversed(done.values()) for seed, found in results.items()}
    initial = {  # base models have one score a seed, whatever the method
        "self": interval([each.self_ for each in first.values()]),
        "others": interval([each.others for each in first.values()]),
    }
    seeds = sorted({each.seed for each in plans})
    tried = {
        variant: {f"{factor:g}": score for factor, score in found.items()} for variant, found in (rates or {}).items()
    }
    at = dict(rates_steps or {})
    return {"budget": budget, "seeds": seeds, "initial": initial, "rates": tried, "rates_steps": at, "rows": rows}


def _settings(plans: Sequence[Plan], variant: str) -> dict[str, float]:
    trainings = [each.settings.training for each in plans if each.variant == variant]
    training = trainings[0]
    return {
        "steps": mean_steps(each.steps for each in trainings),
        "learning_rate": training.learning_rate,
        "colora_learning_rate": training.colora_learning_rate,
    }


def mean_steps(steps: Iterable[float]) -> float:
    """Return the mean of the steps per round of several runs, in hundredths, as a whole number where it is one.

    Args:
        steps: of each run.
    """
    return whole(round(statistics.fmean(steps), 2))


def _spent(plans: Sequence[Plan], results: Results) -> dict[str, float] | None:
    """The least and the most that the finished runs spent, as shares of what they may; None without a budget."""
    shares = [results[each.seed].costs.flops / each.allowed for each in plans if each.allowed and each.seed in results]
    return {"least": min(shares), "most": max(shares)} if shares else None


def _unmeasured(results: RunResults) -> int:
    """How many clients were there at the end and have no scores."""
    return sum((each.exchange, each.round) == ("evaluation", results.rounds) for each in results.missing)


def outside_budget(comparison: Mapping[str, Any]) -> list[str]:
    """Return a line for each variant whose runs are not within :data:`~fedmosaic.experiments.equal_flops.WINDOW`.

    Args:
        comparison: as :func:`compare` returns it.
    """
    least, most = WINDOW
    return [
        f"{row['method']} spent {100 * spent['least']:.1f} to {100 * spent['most']:.1f} % of its budget; expected "
        f"{100 * least:.0f} to {100 * most:.0f} %: its scores are not those of equal FLOPs"
        for row in comparison["rows"]
        if (spent := row["spent"]) and not least <= spent["least"] <= spent["most"] <= most
    ]


def over_fewer_clients(comparison: Mapping[str, Any]) -> list[str]:
    """Return a line for each variant whose means are not over all clients, since some were missing at the end.

    Args:
        comparison: as :func:`compare` returns it.
    """
    return [
        f"{row['method']}: {row['unmeasured']} client(s) of its runs were missing at the end; its means are over the "
        "others and do not compare"
        for row in comparison["rows"]
        if row.get("unmeasured")
    ]


def _row(results: Results) -> dict[str, Any]:
    scores = {name: interval([score(each) for each in results.values()]) for name, score in _SCORES.items()}
    return scores | {
        name: sum(getattr(each.costs, name) for each in results.values()) / len(results) for name in _COSTS
    }


def interval(values: Sequence[float | None]) -> dict[str, float | None] | None:
    """Return mean and half width of the 95 % interval, None for a single value; None without any value.

    Args:
        values: one per seed; None is left out.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean, half = mean_interval(known)
    return {"mean": mean, "ci95": None if math.isnan(half) else half}


def _last(summary: Summary | None) -> float | None:
    return summary.last if summary else None


def _against_rivals(
    variant: str,
    done: Mapping[str, Results],
    methods: Mapping[str, str],
    part: str,
    tasks: Mapping[int, Sequence[str]],
) -> dict[str, Any] | None:
    """Difference to the best variant of another method by the mean final score; None if there is none yet.

    It is that of the final scores, unless clients were missing: then it is of the tasks that both were scored on.
    """
    scores = {name: _final(results, part) for name, results in done.items()}
    mine = scores[variant]
    rivals = {
        name: found
        for name, found in scores.items()
        if methods[name] != methods[variant] and set(found) >= set(done[variant]) and len(found) == len(done[name])
    }
    if not rivals or len(mine) < len(done[variant]):
        return None
    best = max(rivals, key=lambda name: sum(rivals[name][seed].last for seed in mine))
    pairs = [(mine[seed], rivals[best][seed]) for seed in mine]
    common = set.intersection(*(set(each.per_task) for pair in pairs for each in pair))
    if not common:
        return None
    ours, theirs = (
        [{task: each.per_task[task] for task in common} for each in side] for side in zip(*pairs, strict=True)
    )
    difference = paired_difference(ours, theirs, weights=task_weights(tasks, own=part.startswith("self")))
    if all(a.per_task.keys() == b.per_task.keys() for a, b in pairs):
        # Clients that share a task and have unequal numbers of tasks do not weigh it alike, and results have its mean.
        difference = difference.around(statistics.fmean(a.last - b.last for a, b in pairs))
    return {"rival": best, **dataclasses.asdict(difference), "significant": difference.significant}


def _final(results: Results, part: str) -> dict[int, Summary]:
    """Self or Others, after training or after the last exchange, by seed, of the seeds that have any."""
    return {seed: found for seed, each in results.items() if (found := _PARTS[part](each)) is not None}


def rates_of(path: Path, chosen: Mapping[str, RunSettings]) -> dict[str, dict[float, float]]:
    """Return what an earlier comparison has found out about learning rates.

    Args:
        path: its ``comparison.json``.
        chosen: the variants; one that was not tried takes what was found for its method with default settings.

    Returns:
        variant -> factor of the learning rates -> validation score.

    Raises:
        SettingsError: there is no such file, or it says nothing about a variant's method.
    """
    try:
        tried = json.loads(path.read_text(encoding="utf-8"))["rates"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            f"--rates {path}: expected the comparison.json of a comparison that was made with --rates 0.3,1,3"
        ) from None
    found = {}
    for name, settings in chosen.items():
        table = tried.get(name) or tried.get(settings.method)
        if not table:
            raise SettingsError(f"--rates {path} knows no rates of {settings.method!r}, only of {', '.join(tried)}")
        found[name] = {float(factor): score for factor, score in table.items()}
    return found


def steps_of_rates(path: Path, chosen: Mapping[str, RunSettings]) -> dict[str, float]:
    """Return the steps per round with which an earlier comparison has tried the rates that :func:`rates_of` returns.

    Args:
        path: its ``comparison.json``.
        chosen: settings by variant.

    Raises:
        SettingsError: it does not say so.
    """
    earlier = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["method"]: row["settings"]["steps"] for row in earlier.get("rows", ())}
    known = rows | earlier.get("rates_steps", {})
    taken = {name: name if name in earlier["rates"] else settings.method for name, settings in chosen.items()}
    if silent := [source for source in taken.values() if source not in known]:
        raise SettingsError(
            f"--rates {path} does not say with how many steps per round the rates of {silent[0]!r} were chosen; "
            "choose them anew, e.g. --rates 0.3,1,3"
        )
    return {name: known[source] for name, source in taken.items()}


def rates_of_other_steps(then: Mapping[str, float], plans: Sequence[Plan]) -> list[str]:
    """Return a line for each variant whose learning rates were chosen with other steps per round than it will run with.

    Args:
        then: variant -> steps per round with which its rates were chosen.
        plans: the runs to come.

    Raises:
        SettingsError: the steps differ by more than a fifth; the best rates are others then.
    """
    now = {name: mean_steps(each.settings.training.steps for each in plans if each.variant == name) for name in then}
    lines = {name: f"{name} {then[name]:g}, now {now[name]:g}" for name in then if then[name] != now[name]}
    if far := [line for name, line in lines.items() if not 1 / _FAR <= then[name] / now[name] <= _FAR]:
        raise SettingsError(
            f"--rates: learning rates were chosen with other steps per round than are to be run: {'; '.join(far)}; "
            "choose them anew, e.g. --rates 0.3,1,3"
        )
    return list(lines.values())


def write_comparison(folder: Path, comparison: Mapping[str, Any]) -> None:
    """Write ``comparison.json`` and ``comparison.csv``.

    Args:
        folder: where to.
        comparison: as :func:`compare` returns it.
    """
    write_atomically(folder / "comparison.json", json.dumps(comparison, indent=2) + "\n")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = ("rival", "mean", "low", "high")
    rivals = [f"{part}{after}_{key}" for after in ANSWERS for part in PARTS for key in keys]
    shares = ("least", "most")
    spent = [f"spent_{key}" for key in shares]
    scores = [f"{name}_{part}" for name in _SCORES for part in ("mean", "ci95")]
    writer.writerow(["method", *scores, *rivals, *_COSTS, *spent])
    for row in comparison["rows"]:
        cells = [(row[name] or {}).get(part) for name in _SCORES for part in ("mean", "ci95")]
        found = [row[f"against_rivals{after}"][part] or {} for after in ANSWERS for part in PARTS]
        against = [each.get(key) for each in found for key in keys]
        ends = [(row["spent"] or {}).get(key) for key in shares]
        writer.writerow([row["method"], *cells, *against, *(row[name] for name in _COSTS), *ends])
    write_atomically(folder / "comparison.csv", text.getvalue())
