"""``events.jsonl``: one line for everything that happened in a run, written by a callback and read as records."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from fedmosaic.events import Trained
from fedmosaic.federation.callbacks import (
    Callback,
    Checkpoint,
    Measured,
    RoundEnd,
    RoundStart,
    RunEnd,
    RunStart,
    Warned,
)
from fedmosaic.federation.results import Missing, PrivacyAccount, PrivacySpent, parsed
from fedmosaic.processes import peak_memory


@dataclass(frozen=True)
class Resumed:
    """The run went on after a round.

    Attributes:
        round: the last one that was done.
    """

    round: int


@dataclass(frozen=True)
class Changed:
    """The run was let go on beyond its end.

    Attributes:
        rounds: its new number of rounds.
        planned: the number that it was planned for.
    """

    rounds: int
    planned: int


@dataclass(frozen=True)
class Interrupted:
    """The user stopped the run."""


@dataclass(frozen=True)
class Failed:
    """The run had to stop.

    Attributes:
        error: why, in one line.
    """

    error: str


@dataclass(frozen=True)
class Headline:
    """Self and Others after a round, means over the clients that are there; None where nobody has such tasks.

    Attributes:
        round: 0 for the base models.
        clients: who is there, if not all.
        self_, others: in [0, 1], to four places.
    """

    round: int
    clients: tuple[int, ...] | None = field(default=None, kw_only=True)
    self_: Annotated[float | None, Field(alias="self")]
    others: float | None


@dataclass(frozen=True)
class Finished(Headline):
    """The run is done; with the last measurement."""


@dataclass(frozen=True)
class PrivacyTold:
    """What the uploads up to a round tell: :class:`~fedmosaic.federation.results.PrivacyAccount` and the round.

    Attributes:
        round: from 1.
        guarantee, epsilon, delta, per_client: of the account.
    """

    round: int
    guarantee: str
    epsilon: float | None
    delta: float | None
    per_client: Mapping[int, PrivacySpent]

    @property
    def account(self) -> PrivacyAccount:
        """Without the round."""
        return PrivacyAccount(self.guarantee, self.epsilon, self.delta, self.per_client)


@dataclass(frozen=True)
class Memory:
    """The most memory that the server's process has held; with the in-process engine, all of the run's.

    Attributes:
        process: bytes of the machine's memory; None where the system does not tell.
        device: bytes of the accelerator's memory; None without one.
    """

    process: int | None
    device: int | None

    @classmethod
    def now(cls) -> Memory:
        """Ask the system."""
        device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        return cls(peak_memory(), device)


Happening = (
    RoundStart | Trained | Missing | PrivacyTold | Headline | Checkpoint | Resumed | Finished | Changed | Interrupted
    | Failed | Warned | Memory
)  # fmt: skip
KINDS: Mapping[str, type[Happening]] = {
    "round": RoundStart,
    "trained": Trained,
    "missing": Missing,
    "privacy": PrivacyTold,
    "measured": Headline,
    "checkpoint": Checkpoint,
    "resumed": Resumed,
    "finished": Finished,
    "changed": Changed,
    "interrupted": Interrupted,
    "failed": Failed,
    "warning": Warned,
    "memory": Memory,
}
"""The name in the file of each kind of line."""
_NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        time: seconds since 1970.
        what: what happened.
    """

    time: float
    what: Happening


class EventLog(Callback):
    """Writes down what happens in a run.

    Args:
        path: ``events.jsonl``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: Headline | None = None

    def on_run_start(self, record: RunStart) -> None:
        """Write down that a run goes on. See :meth:`Callback.on_run_start`."""
        if record.round is not None:
            append(self._path, Resumed(record.round))

    def on_round_start(self, record: RoundStart) -> None:
        """Write down which round begins. See :meth:`Callback.on_round_start`."""
        append(self._path, record)

    def on_trained(self, record: Trained) -> None:
        """Write down who has trained. See :meth:`Callback.on_trained`."""
        append(self._path, record)

    def on_missing(self, record: Missing) -> None:
        """Write down who is missing. See :meth:`Callback.on_missing`."""
        append(self._path, record)

    def on_round_end(self, record: RoundEnd) -> None:
        """Write down what the uploads tell, where somebody keeps account. See :meth:`Callback.on_round_end`."""
        if (told := record.privacy) is not None and told.per_client:
            append(self._path, PrivacyTold(record.round, told.guarantee, told.epsilon, told.delta, told.per_client))

    def on_measure(self, record: Measured) -> None:
        """Write down Self and Others. See :meth:`Callback.on_measure`."""
        append(self._path, headline(record))

    def on_checkpoint(self, record: Checkpoint) -> None:
        """Write down from where the run can go on. See :meth:`Callback.on_checkpoint`."""
        append(self._path, record)

    def on_warning(self, record: Warned) -> None:
        """Write down the warning. See :meth:`Callback.on_warning`."""
        append(self._path, record)

    def on_run_end(self, record: RunEnd) -> None:
        """Write down that the run is done, if it is. See :meth:`Callback.on_run_end`."""
        if record.measured is not None and record.results is not None:
            append(self._path, Memory.now())
            append(self._path, Finished(**vars(headline(record.measured))))


def headline(measured: Measured) -> Headline:
    """Return Self and Others of one round, to four places.

    Args:
        measured: of the round.
    """
    everyone = len(measured.clients) == measured.of
    self_, others = (None if mean is None else round(mean, 4) for mean in (measured.self_mean, measured.others_mean))
    return Headline(measured.round, self_, others, clients=None if everyone else measured.clients)


def append(path: Path, what: Happening) -> None:
    """Append one line; it is written whole or, if the process dies, not read back.

    Args:
        path: ``events.jsonl``.
        what: what happened.
    """
    fields = {name.rstrip("_"): value for name, value in dataclasses.asdict(what).items()}
    if fields.get("clients", ()) is None:
        del fields["clients"]
    line = json.dumps({"time": round(time.time(), 3), "event": _NAMES[type(what)], **fields})
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # the last one was cut off
                line = f"\n{line}"
        file.write(f"{line}\n".encode())


def read(path: Path) -> Iterator[Line]:
    """Yield all whole lines of a file; lines of a kind that is not known, from a later version, are left out.

    Args:
        path: ``events.jsonl``; it need not be there.

    Raises:
        RunError: a line lacks something or holds what it should not.
    """
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            table = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(table, dict) and (kind := KINDS.get(str(table.get("event")))) is not None:
            what: Any = parsed(kind, table, path=path, advice="remove this line")
            yield Line(float(table.get("time", 0)), what)
