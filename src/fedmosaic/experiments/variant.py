"""Names of variants of a method: ``fedmosaic:relevance=uniform:adapter.alignment=none``."""

from __future__ import annotations

import re
from collections.abc import Sequence

_BETWEEN = re.compile(r":(?=[\w.]+=)")  # a colon in a value, as in device=cuda:1, belongs to it


def method_and_changes(variant: str) -> tuple[str, list[str]]:
    """Return the method that a variant is of, and its settings that differ as ``key=value``.

    Args:
        variant: its name.
    """
    method, _, changes = variant.partition(":")
    return method, _BETWEEN.split(changes) if changes else []


def variant_of(method: str, changes: Sequence[str]) -> str:
    """Return the name of a variant, from which :func:`method_and_changes` finds both again.

    Args:
        method: its name.
        changes: ``key=value`` each.

    Raises:
        ValueError: a value has what separates variants or settings.
    """
    for change in changes:
        if "," in change or method_and_changes(f"{method}:{change}") != (method, [change]):
            raise ValueError(
                f"{change} of {method} has a comma, or a colon and a setting, which separate variants; expected a "
                "plain value, or the setting for all runs below [settings]"
            )
    return ":".join([method, *changes])
