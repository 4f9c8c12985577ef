"""What is being done right now, for whoever listens in the same process (a display, a log); never used for results.

``step`` and ``trained`` come from local training, ``work`` (what, done, total) from everything else that takes long,
and ``note`` (text) is something that the user should be told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Listener = Callable[[str, dict[str, Any]], None]

_listeners: list[Listener] = []


def emit(kind: str, **fields: Any) -> None:
    """Tell every listener what happened."""
    for listener in list(_listeners):
        listener(kind, fields)


def work(what: str, done: int, total: int) -> None:
    """Tell how far something is that takes long, e.g. ``image features``, 32 of 1024."""
    emit("work", what=what, done=done, total=total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener(kind, fields)`` for every event while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
