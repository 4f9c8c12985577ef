"""Options that are lists: values separated by commas, each once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from fedmosaic.errors import SettingsError

T = TypeVar("T")


def listed(text: str, read: Callable[[str], T], *, option: str, expected: str) -> list[T]:
    """Return the values of a list.

    Args:
        text: as it was given.
        read: makes a value of one entry; raises ValueError if it is none.
        option: what the list is called.
        expected: says what the entries should be.

    Raises:
        SettingsError: an entry is no such value, one is given twice, or there are none.
    """
    values: list[T] = []
    for part in text.split(","):
        try:
            value = read(part.strip())
        except ValueError:
            raise SettingsError(f"{option} {text!r}: {part.strip()!r} is not {expected}") from None
        if value in values:
            raise SettingsError(f"{option} {text!r}: {value} is given twice; give each once")
        values.append(value)
    return values


def name(text: str) -> str:
    """Read a name, which is not empty."""
    if not text:
        raise ValueError
    return text


def seed(text: str) -> int:
    """Read a seed."""
    if not 0 <= (value := int(text)) < 2**31:
        raise ValueError
    return value


def count(text: str) -> int:
    """Read a whole number from 0."""
    if (value := int(text)) < 0:
        raise ValueError
    return value


def factor(text: str) -> float:
    """Read a factor: a finite number above 0."""
    if not 0 < (value := float(text)) < math.inf:
        raise ValueError
    return value
