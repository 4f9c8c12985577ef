"""Is one method better than another: differences paired by seed and task, or by seed, task and sample."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from fedmosaic.evaluation.summary import SampleScores

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """Mean of the paired differences and its 95 % interval.

    Attributes:
        mean: of the differences of scores, in [-1, 1].
        low: lower end of the interval.
        high: upper end of the interval.
    """

    mean: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0

    def around(self, mean: float) -> Difference:
        """Return the same interval around another mean.

        Args:
            mean: in [-1, 1].
        """
        moved = mean - self.mean
        return Difference(mean, self.low + moved, self.high + moved)

    def in_points(self) -> str:
        """Return a difference of accuracies in points, with a star if significant: ``-3.6* [-4.9, -2.4]``."""
        mean, low, high = (100 * each for each in (self.mean, self.low, self.high))
        return f"{mean:+.1f}{'*' if self.significant else ''} [{low:+.1f}, {high:+.1f}]"


def task_weights(tasks: Mapping[int, Collection[str]], *, own: bool) -> dict[str, float]:
    """Return how much each task counts in Self or Others, which are means over clients of means over a client's tasks.

    Args:
        tasks: each client's own tasks.
        own: Self or Others.

    Returns:
        task -> sum over the clients whose mean it is part of, of 1 / the number of tasks in that mean.
    """
    every = {task for chosen in tasks.values() for task in chosen}
    return _weights({client: [task for task in every if (task in chosen) == own] for client, chosen in tasks.items()})


def paired_difference(
    mine: Sequence[Mapping[str, float]],
    theirs: Sequence[Mapping[str, float]],
    *,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Difference:
    """Return the mean difference of two methods' scores over seeds and tasks, with a bootstrap interval.

    Seeds and tasks are drawn anew independently of each other, both with all their pairs ("pigeonhole" bootstrap, Owen
    2007): a task that is easy for one method is so for all seeds, and a seed is lucky for many tasks. With a single
    seed only the tasks are drawn, with a single task only the seeds; the interval is then as much wider as a t interval
    is than a normal one with the spread of n values instead of n - 1 (Hesterberg, "What teachers should know about the
    bootstrap", 2015, section 5.3), and the whole range, [-1, 1], of a single number. Both drawn are wide enough (Owen).

    Args:
        mine: one method's scores; task -> score for each seed.
        theirs: the other's, for the same seeds in the same order.
        weights: how much each task counts, as :func:`task_weights` returns it; default: all alike.
        seed: of the bootstrap.

    Raises:
        ValueError: the seeds or tasks of the two are not the same.
    """
    tasks = sorted(mine[0]) if mine else []
    if len(mine) != len(theirs) or not tasks or any(sorted(scores) != tasks for scores in (*mine, *theirs)):
        raise ValueError(
            f"cannot pair {len(mine)} x {[len(m) for m in mine]} with {len(theirs)} x {[len(t) for t in theirs]}"
            " scores: expected the same seeds and tasks"
        )
    table = np.array([[a[task] - b[task] for task in tasks] for a, b in zip(mine, theirs, strict=True)])
    weight = np.array([1.0 if weights is None else weights[task] for task in tasks])
    random = np.random.default_rng(seed)
    rows = random.integers(len(table), size=(_RESAMPLES, len(table)))
    columns = random.integers(len(tasks), size=(_RESAMPLES, len(tasks)))
    of_tasks = table[rows[:, :, None], columns[:, None, :]].mean(axis=1)
    drawn = weight[columns]
    low, high = np.quantile((of_tasks * drawn).sum(axis=1) / drawn.sum(axis=1), [0.025, 0.975])
    mean = float(np.average(table.mean(axis=0), weights=weight))
    if min(table.shape) == 1:
        return _widened(Difference(mean, float(low), float(high)), max(table.shape))
    return Difference(mean, float(low), float(high))


def _widened(found: Difference, count: int) -> Difference:
    """An interval of so many values, which a bootstrap makes too narrow."""
    if count < 2:
        return Difference(found.mean, -1.0, 1.0)
    wider = float(stdtrit(count - 1, 0.975) / ndtri(0.975)) * math.sqrt(count / (count - 1))
    low, high = (found.mean + wider * (end - found.mean) for end in (found.low, found.high))
    return Difference(found.mean, max(low, -1.0), min(high, 1.0))


def sampled_difference(
    mine: Sequence[SampleScores],
    theirs: Sequence[SampleScores],
    tasks: Mapping[int, Collection[str]],
    *,
    seed: int = 0,
) -> Difference | None:
    """Return the mean difference of two methods' scores of single samples, with an interval over tasks and samples.

    The mean is that of Self or Others: over clients, of means over each client's tasks, of means over a task's samples;
    then over seeds. For the interval, seeds and tasks are drawn anew independently of each other, and for every task
    the mean over its samples (from the t distribution of that mean; a question is hard for all clients and seeds).
    Since samples are drawn inside drawn tasks, the interval is wide rather than narrow, and there is one for a single
    task, too. A task's sum of squares is at least that of its largest difference both ways: a few samples that all
    changed alike would have none, and look sure.

    Args:
        mine: one method's scores; client -> task -> score of each sample, for each seed.
        theirs: the other's, for the same seeds in the same order.
        tasks: which tasks count for a client; cells that one of the two lacks in any seed count for nobody.
        seed: of the bootstrap.

    Returns:
        None if no cell is left.

    Raises:
        ValueError: the seeds of the two, or the samples of a task, are not the same.
    """
    if len(mine) != len(theirs):
        raise ValueError(f"cannot pair {len(mine)} with {len(theirs)} seeds")
    pairs = list(zip(mine, theirs, strict=True))
    cells = {
        client: [task for task in chosen if all(task in each.get(client, {}) for pair in pairs for each in pair)]
        for client, chosen in tasks.items()
    }
    cells = {client: chosen for client, chosen in cells.items() if chosen}
    if not pairs or not cells:
        return None
    weights = _weights(cells)
    names = list(weights)
    random = np.random.default_rng(seed)
    counts, seeds = (_draws(random, len(each)) for each in (names, pairs))
    mean, drawn, weight = 0.0, np.zeros(_RESAMPLES), np.zeros(_RESAMPLES)
    for position, task in enumerate(names):
        table = np.array([_of_task(task, pair, cells) for pair in pairs])  # seeds x samples
        rows = table if len(pairs) == 1 else seeds @ table / len(pairs)  # the drawn seeds' mean of each sample
        samples = rows.shape[1]
        free = max(samples - 1, 1)
        squares = np.maximum(rows.var(axis=1) * samples, 2 * np.abs(table).max() ** 2)
        spread = np.sqrt(squares / (samples * free))
        mean += float(table.mean())
        drawn += counts[:, position] * (rows.mean(axis=1) + spread * random.standard_t(free, _RESAMPLES))
        weight += counts[:, position] * weights[task]
    total = sum(weights.values())  # the number of clients
    low, high = np.quantile(drawn / weight, [0.025, 0.975])
    return Difference(mean / total, float(low), float(high))


def _weights(counted: Mapping[int, Collection[str]]) -> dict[str, float]:
    """How much each task counts in a mean over clients of means over the tasks that count for each."""
    names = sorted({task for chosen in counted.values() for task in chosen})
    return {task: sum(1 / len(chosen) for chosen in counted.values() if task in chosen) for task in names}


def _draws(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """How often each of so many things is drawn, when so many are with replacement, in each resample."""
    return random.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(np.float64)


def _of_task(
    task: str, pair: tuple[SampleScores, SampleScores], cells: Mapping[int, Sequence[str]]
) -> NDArray[np.float64]:
    """Each sample's part of the sum over clients of their means over tasks."""
    parts: list[NDArray[np.float64]] = []
    for client, chosen in cells.items():
        if task in chosen:
            a, b = (np.asarray(each[client][task], dtype=np.float64) for each in pair)
            if a.shape != b.shape or (parts and a.shape != parts[0].shape):
                raise ValueError(f"cannot pair {len(a)} with {len(b)} samples of task {task}")
            parts.append((a - b) / len(chosen))
    return np.asarray(np.sum(parts, axis=0))
