"""What a run tells while it goes on: a callback overrides the moments that it cares for and gets one record at each.

The event log, the live display and the trackers are callbacks. They are called in the server's process, in the order in
which they were given; steps and trained clients reach them where clients work in the same process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from fedmosaic import events
from fedmosaic.config import RunSettings
from fedmosaic.evaluation import Measurement, client_means
from fedmosaic.events import Step, Trained
from fedmosaic.federation.results import Costs, Missing, PrivacyAccount, RunResults


@dataclass(frozen=True)
class RunStart:
    """A run begins or goes on.

    Attributes:
        settings: of the run.
        folder: of the run.
        round: the last round that is done, if the run goes on; else None.
    """

    settings: RunSettings
    folder: Path
    round: int | None = None


@dataclass(frozen=True)
class RoundStart:
    """A round begins.

    Attributes:
        round: from 1.
        rounds: of the run.
    """

    round: int
    rounds: int


@dataclass(frozen=True)
class Relevance:
    """Who learns from whom.

    Attributes:
        round: whose uploads were compared; the next round's downloads are made with the weights.
        weights: (N, N), in ascending order of the client ids: how much a row's client gets of a column's. NaN for
            clients without an upload.
        similarity: (N, N), of which the weights were made; None if the method has none.
    """

    round: int
    weights: Tensor
    similarity: Tensor | None = None


@dataclass(frozen=True)
class RoundEnd:
    """The clients of a round have trained, but for those that are missing; nothing has been measured yet.

    Attributes:
        round: from 1.
        costs: of the run up to now.
        privacy: what the uploads up to now tell; None if the method says nothing of it.
        relevance: what this round's downloads were made with; None if the method, or the first round, has none.
    """

    round: int
    costs: Costs
    privacy: PrivacyAccount | None = None
    relevance: Relevance | None = None


@dataclass(frozen=True)
class Measured:
    """What the clients' models scored after a round, in [0, 1].

    Attributes:
        round: 0 for the base models.
        of: how many clients the scenario has.
        clients: those that are there and have answered, ascending.
        own: client -> mean over its own tasks.
        others: client -> mean over the other clients' tasks; empty where they were not measured.
    """

    round: int
    of: int
    clients: tuple[int, ...]
    own: Mapping[int, float]
    others: Mapping[int, float]

    @classmethod
    def from_scores(cls, measurement: Measurement, tasks: Mapping[int, Sequence[str]]) -> Measured:
        """Return the means of scores by task.

        Args:
            measurement: of one round.
            tasks: each client's own tasks.
        """
        own, others = (client_means(measurement, tasks, own=part) for part in (True, False))
        return cls(measurement.round, len(tasks), tuple(sorted(measurement.scores)), own, others)

    @property
    def self_mean(self) -> float | None:
        """Self: mean over the clients that are there."""
        return _mean(self.own)

    @property
    def others_mean(self) -> float | None:
        """Others: mean over the clients that are there; None where they were not measured."""
        return _mean(self.others)


@dataclass(frozen=True)
class Checkpoint:
    """The run can go on after a round.

    Attributes:
        round: from 1; 0 before the first.
    """

    round: int


@dataclass(frozen=True)
class Warned:
    """Something went wrong that does not stop the run.

    Attributes:
        text: one line.
    """

    text: str


@dataclass(frozen=True)
class RunEnd:
    """The run is over.

    Attributes:
        results: what came out; None if it had to stop.
        measured: the last measurement, if there is one.
    """

    results: RunResults | None
    measured: Measured | None = None


class Callback:
    """Hears what happens in a run; override what you care for.

    Attributes:
        optional: whether the run goes on if this fails: it is then told once as a warning and not called again.
            Otherwise its error ends the run.
    """

    optional: ClassVar[bool] = False

    def on_run_start(self, record: RunStart) -> None:
        """The run begins or goes on.

        Args:
            record: settings and folder.
        """

    def on_round_start(self, record: RoundStart) -> None:
        """A round begins.

        Args:
            record: which round.
        """

    def on_step(self, record: Step) -> None:
        """A client has taken a step.

        Args:
            record: whose step, and its loss.
        """

    def on_trained(self, record: Trained) -> None:
        """A client has trained its round.

        Args:
            record: whose round, and its loss.
        """

    def on_missing(self, record: Missing) -> None:
        """A client is missing from an exchange; the run goes on, or has to stop, without it.

        Args:
            record: who, from which exchange, and why.
        """

    def on_round_end(self, record: RoundEnd) -> None:
        """The round's clients have trained.

        Args:
            record: costs, privacy, relevance.
        """

    def on_measure(self, record: Measured) -> None:
        """The clients' models have been scored: before the first round and after each.

        Args:
            record: Self and Others.
        """

    def on_checkpoint(self, record: Checkpoint) -> None:
        """The run can go on after this round, whatever happens.

        Args:
            record: which round.
        """

    def on_warning(self, record: Warned) -> None:
        """Something went wrong that does not stop the run.

        Args:
            record: what to say.
        """

    def on_run_end(self, record: RunEnd) -> None:
        """The run is done, or had to stop; called once after :meth:`on_run_start`.

        Args:
            record: the results.
        """


class Callbacks(Callback):
    """Several callbacks as one.

    Args:
        callbacks: called in this order.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = list(callbacks)
        self._started = False

    @contextmanager
    def hearing_clients(self) -> Iterator[None]:
        """Pass on what clients in this process tell while the block runs."""

        def hear(event: events.Event) -> None:
            if isinstance(event, Step):
                self.on_step(event)
            elif isinstance(event, Trained):
                self.on_trained(event)

        with events.listening(hear):
            yield

    def on_run_start(self, record: RunStart) -> None:
        """See :meth:`Callback.on_run_start`."""
        self._started = True
        self._tell("on_run_start", record)

    def on_round_start(self, record: RoundStart) -> None:
        """See :meth:`Callback.on_round_start`."""
        self._tell("on_round_start", record)

    def on_step(self, record: Step) -> None:
        """See :meth:`Callback.on_step`."""
        self._tell("on_step", record)

    def on_trained(self, record: Trained) -> None:
        """See :meth:`Callback.on_trained`."""
        self._tell("on_trained", record)

    def on_missing(self, record: Missing) -> None:
        """See :meth:`Callback.on_missing`."""
        self._tell("on_missing", record)

    def on_round_end(self, record: RoundEnd) -> None:
        """See :meth:`Callback.on_round_end`."""
        self._tell("on_round_end", record)

    def on_measure(self, record: Measured) -> None:
        """See :meth:`Callback.on_measure`."""
        self._tell("on_measure", record)

    def on_checkpoint(self, record: Checkpoint) -> None:
        """See :meth:`Callback.on_checkpoint`."""
        self._tell("on_checkpoint", record)

    def on_warning(self, record: Warned) -> None:
        """See :meth:`Callback.on_warning`."""
        self._tell("on_warning", record)

    def on_run_end(self, record: RunEnd) -> None:
        """See :meth:`Callback.on_run_end`; nobody is told if the run has not even begun."""
        if self._started:
            self._tell("on_run_end", record)

    def _tell(self, moment: str, record: Any) -> None:
        for callback in list(self._callbacks):
            try:
                getattr(callback, moment)(record)
            except Exception as error:
                if not callback.optional:
                    raise
                self._callbacks.remove(callback)
                text = " ".join(f"{type(error).__name__}: {error}".split())
                self.on_warning(Warned(f"{_name(callback)} failed ({text}); the run goes on without it"))


def _name(callback: Callback) -> str:
    return str(getattr(callback, "name", type(callback).__name__))


def _mean(values: Mapping[int, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None
