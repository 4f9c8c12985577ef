"""Who is told what takes long, and what the user should know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass


@contextmanager
def _unseen(_: str) -> Iterator[Callable[[str], object]]:
    yield lambda _: None


@dataclass(frozen=True)
class Teller:
    """How something is told.

    Attributes:
        working: takes the title of what takes long and is entered around it; gives a function that takes a better
            title.
        note: takes what the user should know.
    """

    working: Callable[[str], AbstractContextManager[Callable[[str], object]]] = _unseen
    note: Callable[[str], object] = lambda _: None


SILENT = Teller()
"""Tells nobody."""
