"""Self, Others, last and AUC, from scores per round, client and task (docs/method-facts.md#measures)."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedmosaic.evaluation.statistics import pooled_interval

Scores = Mapping[str, float]
"""Task -> mean score of one client's model."""
SampleScores = Mapping[int, Mapping[str, Sequence[float]]]
"""Client -> task -> score of each test sample."""


@dataclass(frozen=True)
class Measurement:
    """Mean scores of all clients' models on own and other tasks, after one round's local training.

    Attributes:
        round: the round.
    """

    round: int
    scores: Mapping[int, Scores]
    """Client -> task -> mean score."""

    @classmethod
    def of(cls, round_: int, scores: SampleScores) -> Measurement:
        """Return the measurement of single samples' scores.

        Args:
            round_: the round.
            scores: of single samples.
        """
        means = {
            client: {task: statistics.fmean(each) for task, each in tasks.items()} for client, tasks in scores.items()
        }
        return cls(round_, dict(sorted(means.items())))


@dataclass(frozen=True)
class Summary:
    """One of ``self`` and ``others`` in ``results.json``.

    Attributes:
        per_task: Mean score of each task.
    """

    last: float
    """Mean over the clients that are there at the end."""
    auc: float
    """Over the same clients, so that differences of both compare like with like: the mean of each one's mean over the
    milestones at which it was there."""
    per_client: list[float | None]
    """In the order of the ids; None for a client without such a task."""
    per_task: dict[str, float]
    per_task_ci95: dict[str, tuple[float, float]]
    """Bootstrap over the test samples, each scored by the mean over the clients that were asked; within each client
    where clients have test samples of their own."""

    def as_json(self) -> dict[str, Any]:
        """Return the form in ``results.json``."""
        return dataclasses.asdict(self)


def milestones(rounds: int, count: int, *, planned: int = 0) -> list[int]:
    """Return evenly spaced rounds, the last included: 20 rounds, 4 -> 5, 10, 15, 20.

    Args:
        rounds: the run's.
        count: how many.
        planned: among how many rounds they are spaced, if not the run's; more follow at the same distance. So the
            milestones of a run are among those of one that goes on: 22 rounds, 4, planned 20 -> 5, 10, 15, 20, 22.

    Returns:
        The rounds, ascending.
    """
    planned = planned or rounds
    count = min(count, planned)
    spaced = (max(1, round(planned * k / count)) for k in range(1, rounds * count // planned + 1))
    return sorted({rounds, *(each for each in spaced if each < rounds)})


def client_means(measurement: Measurement, tasks: Mapping[int, Sequence[str]], *, own: bool) -> dict[int, float]:
    """Each client's unweighted mean over its own tasks, or over all tasks that are not its own.

    Args:
        measurement: scores of one round.
        tasks: each client's own tasks.
        own: Self or Others.

    Returns:
        client -> mean; a client without such a task is left out (a single client has no others).
    """
    means = {}
    for client, scores in measurement.scores.items():
        chosen = [score for task, score in scores.items() if (task in tasks[client]) == own]
        if chosen:
            means[client] = statistics.fmean(chosen)
    return means


def summarise(
    history: Sequence[Measurement], samples: SampleScores, tasks: Mapping[int, Sequence[str]], *, own: bool
) -> Summary | None:
    """Summarise Self or Others over the milestones; the last measurement is the final one.

    Args:
        history: measurements of the milestone rounds.
        samples: scores of single samples of the final round.
        tasks: each client's own tasks.
        own: Self or Others.

    Returns:
        None if no client has such a task.
    """
    per_round = [client_means(measurement, tasks, own=own) for measurement in history]
    if not per_round or not per_round[-1]:
        return None
    last = per_round[-1]
    by_task: dict[str, list[Sequence[float]]] = {}
    for client, scores in sorted(samples.items()):
        for task, each in scores.items():
            if (task in tasks[client]) == own:
                by_task.setdefault(task, []).append(each)
    groups = {task: _samples(by_task[task]) for task in sorted(by_task)}
    return Summary(
        last=statistics.fmean(last.values()),
        auc=statistics.fmean(
            statistics.fmean(means[client] for means in per_round if client in means) for client in last
        ),
        per_client=[last.get(client) for client in sorted(tasks)],
        per_task={task: statistics.fmean(map(statistics.fmean, each)) for task, each in groups.items()},
        per_task_ci95={task: pooled_interval(each, seed=0) for task, each in groups.items()},
    )


def _samples(clients: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    """Return the clients' mean score of each sample of a task, as one group; each client's own where numbers differ.

    Clients whose numbers of samples differ have other samples under one name, of which none can be paired.
    """
    if len(set(map(len, clients))) > 1:
        return clients
    return [[statistics.fmean(scores) for scores in zip(*clients, strict=True)]]
