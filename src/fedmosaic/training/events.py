"""Progress of local training, for whoever listens in the same process (a live display); never used for results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Listener = Callable[[str, dict[str, Any]], None]

_listeners: list[Listener] = []


def emit(kind: str, **fields: Any) -> None:
    """Tell every listener what happened."""
    for listener in _listeners:
        listener(kind, fields)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener(kind, fields)`` for every event while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
