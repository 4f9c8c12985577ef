"""Methods with their settings, made by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedmosaic.config.validation import explain
from fedmosaic.errors import SettingsError
from fedmosaic.methods.base import Method
from fedmosaic.nearest import hint
from fedmosaic.registry import METHODS


def method_classes() -> dict[str, type[Method[Any]]]:
    """All known methods by name.

    Raises:
        SettingsError: two methods have one name, or an entry point is not a method.
    """
    return {name: METHODS.load(name) for name in METHODS}


def setting_names(name: str) -> list[str]:
    """Return the names of a method's own settings.

    Args:
        name: of the method.

    Raises:
        SettingsError: unknown method.
    """
    return [field.name for field in dataclasses.fields(METHODS.load(name).Settings)]


def make_method(name: str, settings: Mapping[str, Any]) -> Method[Any]:
    """Return a method of a name with settings.

    Args:
        name: as given on the command line.
        settings: the settings that differ from their defaults.

    Raises:
        SettingsError: unknown method (with the nearest name), unknown key or unusable value.
    """
    kind: type[Method[Any]] = METHODS.load(name)
    names = setting_names(name)
    if unknown := [key for key in settings if key not in names]:
        raise SettingsError(
            f"method {name!r} has no setting {unknown[0]!r}; {hint(unknown[0], names)}"
            f"it has: {', '.join(names) or 'no settings'}"
        )
    try:
        return kind(TypeAdapter(kind.Settings).validate_python(dict(settings)))
    except ValidationError as error:
        raise SettingsError(f"method {name!r}: {explain(error, kind.Settings)}") from None
