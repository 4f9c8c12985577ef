"""Settings as ``key=value`` strings with dotted keys, which :func:`fedmosaic.config.resolve` reads."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from fedmosaic.config.paths import OF_SETTINGS
from fedmosaic.errors import SettingsError


def dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables by dotted keys; an empty table is a value.

    Args:
        table: settings, or a part of them.
        prefix: put before each key.

    Yields:
        Key and value.
    """
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def apply_override(table: dict[str, Any], override: str) -> None:
    """Set a value in nested tables; a path is relative to the working folder.

    Args:
        table: of run settings, not valid yet; changed in place.
        override: ``key=value`` with a dotted key.

    Raises:
        SettingsError: it is no such text, or its key lies below a single value.
    """
    key, sign, text = override.partition("=")
    path = key.strip().split(".")
    if not sign or not all(path):
        raise SettingsError(f"--set takes key=value with a dotted key, e.g. training.steps=10; got {override!r}")
    if path[:2] == ["scenario", "settings"]:  # a scenario's defaults have been read by now
        raise SettingsError(f"--set {override} would change nothing; set the key itself: {'.'.join(path[2:]) or 'KEY'}")
    if path[0] == "method" and len(path) > 1:
        path[0] = "method_settings"
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise SettingsError(f"--set {override}: {part!r} is a single value and has no keys below it")
    value, place = _value(text.strip()), tuple(path)
    if place in OF_SETTINGS and isinstance(value, str):
        value = OF_SETTINGS[place](value, Path.cwd())
    table[path[-1]] = value


def literal(key: str, value: Any) -> str:
    """Return a value as a setting's text, which is read as the same value.

    Args:
        key: of the setting, for messages.
        value: a number, text, path, truth value, or a list or table of them.

    Raises:
        SettingsError: it is none of these.
    """
    plain = str(value) if isinstance(value, Path) else value
    try:
        return tomli_w.dumps({"value": plain}).partition("=")[2].strip()
    except (TypeError, ValueError):
        raise SettingsError(
            f"setting {key} = {value!r} is a {type(value).__name__}; expected a number, a text, a truth value or a "
            "list of them (leave a setting out to have its default)"
        ) from None


def _value(text: str) -> Any:
    """A TOML literal if it is one, else the text itself, so that strings need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
