"""Scoring a finished run's models again: also on unseen tasks, also by generated text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedmosaic.api.objects import Objects
from fedmosaic.api.opening import open_finished
from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.evaluation import Summary
from fedmosaic.experiments.rescoring import agreement, check_choices, examine, unseen_tasks
from fedmosaic.federation import RunFolder
from fedmosaic.federation.results import RunResults


@dataclass(frozen=True)
class Agreement:
    """Multiple choice scored by likelihood and by generated text, on all questions that have options.

    Attributes:
        same: share of equal verdicts.
        by_likelihood: accuracy.
        by_text: accuracy.
    """

    same: float
    by_likelihood: float
    by_text: float


@dataclass(frozen=True)
class Evaluation:
    """Scores of the final models of all clients that are there at the end, in [0, 1].

    Attributes:
        unseen: whether the tasks are those that no client trained on.
        mean: over clients and tasks.
        per_task: mean over the clients.
        per_task_ci95: ends of its 95 % interval, by bootstrap over the samples.
        per_client: mean over the tasks; None for a client that has left, or missed the last exchange asked for.
        agreement: with scores by generated text, if that was asked for.
        per_client_task: of every client that is there on every task.
    """

    unseen: bool
    mean: float
    per_task: Mapping[str, float]
    per_task_ci95: Mapping[str, tuple[float, float]]
    per_client: Mapping[int, float | None]
    agreement: Agreement | None = None
    per_client_task: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


def evaluate(
    run: Path,
    *,
    unseen: bool = False,
    generated: bool = False,
    after_exchange: bool = False,
    device: str | None = None,
    objects: Objects | None = None,
    tell: Teller = SILENT,
) -> Evaluation:
    """Score every client's final model on all tasks of its run's clients.

    Args:
        run: folder of a finished run.
        unseen: score the tasks that no client trained on instead; the outcome is added to ``results.json``.
        generated: score multiple choice by generated text, too, and compare.
        after_exchange: clients answer as the last exchange has left them, not as local training has.
        device: where models compute; default: where they did, or what ``auto`` takes if that is not there.
        objects: what the run was given as objects.
        tell: shows what takes long.

    Returns:
        The scores, with intervals.

    Raises:
        SettingsError: the run is not done or made no last exchange, there are no unseen tasks, or nothing to compare.
        FedMosaicError: data, models or states are missing, or have changed since the run.
    """
    runtime = open_finished(run, objects, after_exchange=after_exchange, device=device)
    settings = runtime.assets.settings
    tasks = unseen_tasks(runtime.assets) if unseen else settings.scenario.task_names
    if generated:
        check_choices(runtime.assets, tasks)
    with tell.working(f"{len(settings.scenario.clients)} models x {len(tasks)} tasks"):
        summary, measured = examine(runtime, tasks, rounds=settings.rounds)
    if unseen:
        folder = RunFolder(run)
        if (results := folder.results()) is not None:
            folder.write_results(_with_unseen(results, summary, after_exchange=after_exchange))
    compared = None
    if generated:
        with tell.working("generating"):
            compared = Agreement(*agreement(runtime, tasks, rounds=settings.rounds))
    ids = sorted(client.id for client in settings.scenario.clients)
    per_client = dict(zip(ids, summary.per_client, strict=True))
    ci95 = summary.per_task_ci95
    return Evaluation(unseen, summary.last, summary.per_task, ci95, per_client, compared, measured.scores)


def _with_unseen(results: RunResults, summary: Summary, *, after_exchange: bool) -> RunResults:
    if after_exchange and results.exchanged is not None:
        return replace(results, exchanged=replace(results.exchanged, unseen=summary))
    return replace(results, unseen=summary)
