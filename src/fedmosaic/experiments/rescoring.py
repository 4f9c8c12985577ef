"""Scoring the models of a finished run again, outside its rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from fedmosaic import events
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.evaluation import Measurement, Summary, summarise
from fedmosaic.evaluation.matching import match_option
from fedmosaic.evaluation.score import choice_scores
from fedmosaic.evaluation.summary import client_means
from fedmosaic.federation import participation
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.runtime import ClientRuntime
from fedmosaic.models import BaseModel
from fedmosaic.models.likelihoods import option_tokens


def unseen_tasks(assets: Assets) -> list[str]:
    """Return the tasks of a run's benchmark that no client of the run trained on.

    Args:
        assets: of the run.

    Raises:
        SettingsError: there are none.
    """
    scenario = assets.settings.scenario
    names = [name for name in assets.benchmark.unseen_names() if name not in scenario.task_names]
    if not names:
        raise SettingsError(
            f"nothing is unseen in {scenario.data or scenario.benchmark}: it names no tasks beyond the run's own; "
            "evaluate without --unseen, or see how another task is learned: fedmosaic adapt RUN --task NAME"
        )
    return names


def check_choices(assets: Assets, tasks: Sequence[str]) -> None:
    """Check that there are samples for :func:`agreement`.

    Args:
        assets: of the run.
        tasks: their names.

    Raises:
        SettingsError: no question of these tasks has options.
    """
    split = assets.settings.evaluation.split
    if not any(sample.options for task in tasks for sample in assets.benchmark.task(task).split(split)):
        raise SettingsError(
            f"--generated compares two ways to score multiple choice, but none of the {len(tasks)} task(s) has "
            "options; evaluate without it: open answers are scored by generated text anyway"
        )


def examine(runtime: ClientRuntime, tasks: Sequence[str], *, rounds: int) -> tuple[Summary, Measurement]:
    """Return scores of all clients present after the last round on the given tasks, on as many samples as the run was.

    They come as means over clients and tasks, and of every client on every task. Clients that missed the last exchange
    have none where answers are those after it.

    Args:
        runtime: of the run.
        tasks: seen or unseen ones.
        rounds: the run's last round.
    """
    scores = _scores(runtime, tasks, rounds)
    everything = {spec.id: list(tasks) for spec in runtime.assets.settings.scenario.clients}
    measured = Measurement.of(rounds, scores)
    summary = summarise([measured], scores, everything, own=True)
    assert summary is not None  # there is at least one client and one task
    return summary, measured


def self_and_others(runtime: ClientRuntime, *, rounds: int) -> tuple[float, float | None]:
    """Return Self and Others of a run after its last round, as its settings now say that clients answer.

    Others is None if no client has tasks that another one lacks.

    Args:
        runtime: of the run.
        rounds: the run's last round.
    """
    scenario = runtime.assets.settings.scenario
    measured = Measurement.of(rounds, _scores(runtime, scenario.task_names, rounds))
    own = scenario.tasks_by_client
    mine, theirs = (client_means(measured, own, own=part).values() for part in (True, False))
    return statistics.fmean(mine), statistics.fmean(theirs) if theirs else None


def _scores(runtime: ClientRuntime, tasks: Sequence[str], rounds: int) -> dict[int, dict[str, tuple[float, ...]]]:
    known = runtime.assets.settings.scenario
    runtime.inputs.check(tasks=[task for task in tasks if task in known.task_names], models=known.models)
    prepare(runtime.assets, tasks)
    there = participation.present(runtime.assets.settings, rounds)
    ids = [client for client in there if client not in runtime.states.left_out]
    count, scores = runtime.assets.settings.evaluation.final_samples_per_task, {}
    for done, client in enumerate(ids):
        events.work("models", done, len(ids))
        scores[client] = ClientNode(runtime, client).score(rounds, tasks, count=count)
    return scores


def agreement(runtime: ClientRuntime, tasks: Sequence[str], *, rounds: int) -> tuple[float, float, float]:
    """Compare scoring by likelihood with scoring by generated text on the clients' own multiple-choice samples.

    Args:
        runtime: of the run.
        tasks: their names; a client is scored on its own ones and on unseen ones.
        rounds: the run's last round.

    Returns:
        Share of equal verdicts (right or wrong), accuracy by likelihood, accuracy by generated text.
    """
    prepare(runtime.assets, tasks)
    how = runtime.assets.settings.evaluation
    pairs: list[tuple[float, bool]] = []
    for spec in runtime.assets.settings.scenario.clients:
        if spec.id in runtime.states.left_out:
            continue
        with runtime.states.model_of(ClientNode(runtime, spec.id).client_after(rounds), rounds) as model:
            for task in tasks:
                if task in spec.tasks or task not in runtime.assets.settings.scenario.task_names:
                    samples = runtime.assets.benchmark.task(task).split(how.split)
                    pairs += _verdicts(model, samples, least_tokens=how.answer_tokens)
    return (
        statistics.fmean(1 - abs(one - two) for one, two in pairs),
        statistics.fmean(one for one, _ in pairs),
        statistics.fmean(two for _, two in pairs),
    )


def _verdicts(
    model: BaseModel, samples: Sequence[Sample], *, least_tokens: int, size: int = 32
) -> list[tuple[float, bool]]:
    """Return how far the likeliest option of each multiple-choice question is right, and whether the text means it.

    Texts may be as long as the longest option, or as open answers if these are longer.
    """
    choices = [sample for sample in samples if sample.options is not None]
    pairs = []
    for start in range(0, len(choices), size):
        batch = choices[start : start + size]
        lengths = [len(tokens) for experts in option_tokens(model, batch).values() for tokens in experts]
        texts = model.answer(batch, max_tokens=max(least_tokens, *lengths))
        for sample, right, text in zip(batch, choice_scores(model, batch), texts, strict=True):
            pairs.append((right, match_option(text, sample.options or ()) == sample.answer))
    return pairs


def prepare(assets: Assets, tasks: Sequence[str]) -> None:
    """Compute beforehand what the base models can for the samples that score a run, e.g. image features.

    Args:
        assets: of the run.
        tasks: their names.
    """
    split = assets.settings.evaluation.split
    samples = [sample for task in tasks for sample in assets.benchmark.task(task).split(split)]
    assets.pool.prepare(assets.settings.scenario.models, samples)
