"""What somebody who wrote a wrong name probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 24  # longer lists of names help nobody


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is spelt most like one that does not exist, if any is."""
    by_lower = {each.lower(): each for each in sorted(known, reverse=True)}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def hint(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` and a space, to go on after; empty where no known name is near."""
    near = nearest(name, known)
    return f"did you mean {near!r}? " if near else ""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?``, or all known names where none is near; empty where nothing is known.

    Args:
        name: the name that does not exist.
        known: those that do.
    """
    names = sorted(known)
    if near := hint(name, names):
        return near.rstrip()
    if not names:
        return ""
    rest = f", ... ({len(names)} in all)" if len(names) > _LISTED else ""
    return f"known: {', '.join(names[:_LISTED])}{rest}"
