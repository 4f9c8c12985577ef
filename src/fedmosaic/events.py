"""What is being done right now, for whoever listens in the same process (a display, callbacks); never used for results.

``step`` and ``trained`` come from local training, ``work`` from everything else that takes long, and ``note`` is
something that the user should be told at once. Who emits names the kind and its fields; a listener gets one record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """A client has taken a step.

    Attributes:
        client: its id.
        round: from 1.
        step: from 1, in this round.
        steps: of this round.
        loss: mean training loss over the round's steps so far; None if the client's model has taken none of them.
        proxy: whether it is the client's proxy model that has taken it, and whose loss this is.
    """

    client: int
    round: int
    step: int
    steps: int
    loss: float | None
    proxy: bool = False


@dataclass(frozen=True)
class Trained:
    """A client has trained a round.

    Attributes:
        client: its id.
        round: from 1.
        loss: mean training loss over the round's steps; None if the client's own model took none.
        seconds: inside the client.
        tokens: that it has trained on; None where that is not told, as by clients in other processes.
    """

    client: int
    round: int
    loss: float | None
    seconds: float
    tokens: int | None = None


@dataclass(frozen=True)
class Work:
    """How far something is that takes long, e.g. ``image features``, 32 of 1024.

    Attributes:
        what: is worked on.
        done: how many of them.
        total: how many there are.
    """

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Note:
    """Something that the user should be told at once.

    Attributes:
        text: one line.
    """

    text: str


Event = Step | Trained | Work | Note
Listener = Callable[[Event], None]

_KINDS: Mapping[str, Callable[..., Event]] = {"step": Step, "trained": Trained, "work": Work, "note": Note}
_listeners: list[Listener] = []


def emit(kind: str, **fields: Any) -> None:
    """Tell every listener what happened.

    Args:
        kind: ``step``, ``trained``, ``work`` or ``note``.
        fields: of its record.
    """
    event = _KINDS[kind](**fields)
    for listener in list(_listeners):
        listener(event)


def work(what: str, done: int, total: int) -> None:
    """Tell how far something is that takes long, e.g. ``image features``, 32 of 1024.

    Args:
        what: is worked on.
        done: how many of them.
        total: how many there are.
    """
    emit("work", what=what, done=done, total=total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener(event)`` for every event while the block runs.

    Args:
        listener: hears every event.

    Yields:
        Nothing.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
