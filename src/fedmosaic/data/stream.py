"""The samples of one client over time: which arrive in which round, and which are trained on.

Arriving samples enter a memory of unlimited size. Each training step draws a batch from it that favours samples rarely
drawn so far: p ~ softmax(-count / 0.125); counts are multiplied by 0.99 before each draw and grow by one when drawn
(the protocol of FedMosaic's release).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np

from fedmosaic.data.sample import Sample, Task
from fedmosaic.errors import SettingsError
from fedmosaic.seeding import rng

Protocol = Literal["static", "dynamic"]

T = TypeVar("T")

TEMPERATURE = 0.125
DECAY = 0.99


@dataclass(frozen=True, slots=True)
class _MemoryState:
    """The memory between two rounds: all samples that have arrived, and how often each was drawn (decayed)."""

    samples: tuple[Sample, ...]
    counts: tuple[float, ...]


def tasks_by_round(tasks: Sequence[T], protocol: Protocol, rounds: int) -> list[tuple[T, ...]]:
    """Return whose samples arrive in each round; see :class:`Stream`.

    Args:
        tasks: a client's tasks in order, or their names.
        protocol: of the scenario.
        rounds: over how many rounds the samples arrive.
    """
    if protocol == "static":
        return [tuple(tasks)] * rounds
    if rounds < len(tasks):
        cuts = np.array_split(np.arange(len(tasks)), rounds)
        return [tuple(tasks[int(i)] for i in cut) for cut in cuts]
    owners = (i for i, cut in enumerate(np.array_split(np.arange(rounds), len(tasks))) for _ in cut)
    return [(tasks[i],) for i in owners]


class Stream:
    """One client's samples over the rounds in which it takes part; they arrive in the first of these.

    Equal arguments give equal batches, independent of earlier calls: a resumed run draws the same batches.

    Args:
        tasks: the client's tasks in order.
        protocol: ``dynamic``: the rounds are divided evenly among the tasks in order (the first tasks get the rounds
            that are left over; with fewer rounds than tasks, neighbouring tasks share a round), and each task's train
            samples are shuffled and divided among its rounds. ``static``: all tasks' train samples are mixed, shuffled
            and divided among the rounds.
        rounds: over how many rounds the samples arrive.
        seed: the client's seed.
        first: number of the stream's first round.
        after: number of further rounds, in which nothing arrives and all samples are drawn from.
        idle: rounds in which the client does not train: their samples arrive, and nothing is drawn.
        pace: returns the number of steps of a round, for rounds before the one that is asked for; None: as many as in
            that one.

    Raises:
        SettingsError: no tasks, no rounds, or an unknown protocol.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        protocol: Protocol,
        rounds: int,
        seed: int,
        *,
        first: int = 1,
        after: int = 0,
        idle: Collection[int] = (),
        pace: Callable[[int], int] | None = None,
    ) -> None:
        if not tasks:
            raise SettingsError("a stream needs at least one task; give the client a task")
        if rounds < 1:
            raise SettingsError(f"rounds is {rounds}; expected at least 1")
        if protocol not in get_args(Protocol):
            raise SettingsError(f"unknown protocol {protocol!r}; expected one of {', '.join(get_args(Protocol))}")
        self.tasks = tuple(tasks)
        self.protocol = protocol
        self.rounds = rounds
        self.seed = seed
        self.first = first
        self.idle = frozenset(idle)
        self.pace = pace
        self._plan = [*tasks_by_round(self.tasks, protocol, rounds), *[()] * after]
        self._arrivals = [*self._samples_by_round(), *[()] * after]
        self._memories: dict[tuple[int, int, int], _MemoryState] = {}
        self._batches: dict[tuple[int, int, int], list[list[Sample]]] = {}

    def with_idle(self, rounds: Collection[int]) -> Stream:
        """Return the same stream with further rounds in which the client does not train.

        Args:
            rounds: their numbers.
        """
        if self.idle.issuperset(rounds):
            return self
        other = copy(self)
        other.idle = self.idle.union(rounds)
        other._memories, other._batches = {}, {}
        return other

    @property
    def last(self) -> int:
        """Number of the stream's last round."""
        return self.first + len(self._arrivals) - 1

    def tasks_at(self, round: int) -> tuple[Task, ...]:  # noqa: A002
        """Return the tasks whose samples arrive in a round.

        Args:
            round: counts from 1.

        Raises:
            SettingsError: the run has no such round.
        """
        self._check(round)
        return self._plan[round - self.first]

    def arrivals(self, round: int) -> tuple[Sample, ...]:  # noqa: A002
        """Return the samples that arrive in a round, in order.

        Args:
            round: counts from 1.

        Raises:
            SettingsError: the run has no such round.
        """
        self._check(round)
        return self._arrivals[round - self.first]

    @property
    def arrival_counts(self) -> list[int]:
        """How many samples arrive in each round in which any do, over the whole stream."""
        return [len(arriving) for arriving in self._arrivals if arriving]

    def samples_since(self, after: int, *, until: int) -> list[Sample]:
        """Return the samples that arrive in the rounds after one round and up to another, in order.

        Args:
            after: the last round whose samples are not meant; 0: none.
            until: the last round whose samples are.
        """
        rounds = range(max(after + 1, self.first), min(until, self.last) + 1)
        return [sample for round_ in rounds for sample in self.arrivals(round_)]

    def batches(self, round: int, steps: int, batch_size: int) -> list[list[Sample]]:  # noqa: A002
        """Return the batches of a round.

        Earlier rounds are replayed once with the steps of the stream's pace, or the same ``steps``, and the same
        ``batch_size``. The batches of an idle round are those that would have been drawn.

        Args:
            round: counts from 1.
            steps: how many batches.
            batch_size: samples of a batch; fewer only while fewer have arrived at all. No sample twice in a batch.

        Raises:
            SettingsError: the run has no such round, or a number is not positive.
        """
        self._check(round)
        if steps < 1 or batch_size < 1:
            raise SettingsError(f"steps is {steps} and batch_size is {batch_size}; both must be at least 1")
        before = _MemoryState((), ())
        for number in range(self.first, round + 1):
            taken = self.pace(number) if self.pace and number < round else steps
            if (number, taken, batch_size) not in self._batches:
                self._replay(number, taken, batch_size, before)
            before = self._memories[number, taken, batch_size]
        return [list(batch) for batch in self._batches[round, steps, batch_size]]

    def _check(self, number: int) -> None:
        if not self.first <= number <= self.last:
            raise SettingsError(
                f"round {number} does not exist; this stream has the rounds {self.first} to {self.last}"
            )

    def _samples_by_round(self) -> list[tuple[Sample, ...]]:
        if self.protocol == "static":
            mixed = [sample for task in self.tasks for sample in task.train]
            return _cut(_shuffled(mixed, self.seed, "static"), self.rounds)
        arrivals: list[tuple[Sample, ...]] = [()] * self.rounds
        for position, task in enumerate(self.tasks):
            own = [i for i, now in enumerate(self._plan) if any(t is task for t in now)]
            cuts = _cut(_shuffled(task.train, self.seed, "dynamic", position, task.name), len(own))
            for i, cut in zip(own, cuts, strict=True):
                arrivals[i] += cut
        return arrivals

    def _replay(self, number: int, steps: int, batch_size: int, before: _MemoryState) -> None:
        arriving = self._arrivals[number - self.first]
        samples, counts = list(before.samples), np.array(before.counts)
        draws = rng(self.seed, "draws", number, steps, batch_size)
        batches, arrived = [], 0
        for step in range(1, steps + 1):
            due = -(-step * len(arriving) // steps)
            due = min(len(arriving), max(due, arrived + batch_size - len(samples)))  # the first batch must be full
            samples += arriving[arrived:due]
            counts = np.append(counts, np.zeros(due - arrived)) * DECAY
            arrived = due
            drawn = _draw(counts, min(batch_size, len(samples)), draws)
            counts[drawn] += 1
            batches.append([samples[int(i)] for i in drawn])
        if number in self.idle:
            counts = np.append(before.counts, np.zeros(len(arriving)))
        self._memories[number, steps, batch_size] = _MemoryState(tuple(samples), tuple(float(c) for c in counts))
        self._batches[number, steps, batch_size] = batches


def _draw(counts: np.ndarray, number: int, draws: np.random.Generator) -> np.ndarray:
    """Draw without replacement with p ~ softmax(-count / T), by the Gumbel top-k trick: no probability underflows."""
    keys = -counts / TEMPERATURE + draws.gumbel(size=len(counts))
    return np.argsort(-keys, kind="stable")[:number]


def _shuffled(samples: Sequence[Sample], seed: int, *names: object) -> list[Sample]:
    order = rng(seed, "stream", *names).permutation(len(samples))
    return [samples[int(i)] for i in order]


def _cut(samples: Sequence[Sample], pieces: int) -> list[tuple[Sample, ...]]:
    cuts = np.array_split(np.arange(len(samples)), pieces)
    return [tuple(samples[int(i)] for i in cut) for cut in cuts]
