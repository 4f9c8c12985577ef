"""Suggestions for misspelt names in error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 24  # at most so many names in an error message


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is spelt most like a name that does not exist.

    Args:
        name: the name that does not exist.
        known: all names that exist.

    Returns:
        A known name, or None where none is similar (``difflib`` ratio below 0.6, case ignored).
    """
    by_lower = {each.lower(): each for each in sorted(known, reverse=True)}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def hint(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` with a space at the end; empty where no known name is similar.

    Args:
        name: the name that does not exist.
        known: all names that exist.
    """
    near = nearest(name, known)
    return f"did you mean {near!r}? " if near else ""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?``, or all known names where none is similar; empty where there are none.

    Args:
        name: the name that does not exist.
        known: all names that exist.
    """
    names = sorted(known)
    if near := hint(name, names):
        return near.rstrip()
    if not names:
        return ""
    rest = f", ... ({len(names)} in all)" if len(names) > _LISTED else ""
    return f"known: {', '.join(names[:_LISTED])}{rest}"
