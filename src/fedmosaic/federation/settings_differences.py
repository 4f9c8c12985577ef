"""In which values two settings differ, for errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.config import RunSettings


def differences(old: RunSettings, new: RunSettings) -> str:
    """Return, for an error, in which values two settings differ; empty if in none.

    Args:
        old: settings of a run.
        new: those asked for.
    """
    return _differences(old.model_dump(mode="json"), new.model_dump(mode="json"))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            if inner := _differences(before, after, f"{prefix}{key}."):
                found.append(inner)
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} there, {after!r} asked" if not isinstance(before, list) else key)
    return "; ".join(found)
