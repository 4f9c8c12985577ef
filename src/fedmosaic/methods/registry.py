"""Finds methods by name: the files of this package, and entry points of other packages (``fedmosaic.methods``)."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedmosaic import methods
from fedmosaic.config.validation import explain
from fedmosaic.errors import SettingsError
from fedmosaic.methods.base import Method
from fedmosaic.nearest import hint

_NOT_METHODS = {"base", "registry"}
_registered: dict[str, type[Method[Any]]] = {}


def method_classes() -> dict[str, type[Method[Any]]]:
    """All known methods by name; an outside package's method must not reuse a built-in name.

    Raises:
        SettingsError: two methods have one name, or an entry point is not a method.
    """
    found: dict[str, type[Method[Any]]] = {}
    for module_info in pkgutil.iter_modules(methods.__path__):
        if module_info.name not in _NOT_METHODS:
            module = importlib.import_module(f"{methods.__name__}.{module_info.name}")
            for value in vars(module).values():
                if _is_method(value) and value.__module__ == module.__name__:
                    found[value.name] = value
    for entry in entry_points(group="fedmosaic.methods"):
        value = entry.load()
        if not _is_method(value):
            raise SettingsError(f"entry point {entry.name!r} ({entry.value}) is not a fedmosaic Method class")
        if value.name in found:
            raise SettingsError(f"entry point {entry.name!r}: a method named {value.name!r} exists already")
        found[value.name] = value
    return found | _registered


def register(kind: type[Method[Any]]) -> type[Method[Any]]:
    """Add a class in this process; the same class, defined again, takes its own place.

    Raises:
        SettingsError: it is no method, or its name is taken.
    """
    if not _is_method(kind):
        shown = getattr(kind, "__qualname__", repr(kind))
        raise SettingsError(f'{shown} is no method: expected a class derived from fedmosaic.Method with name = "..."')
    known = _registered.get(kind.name)
    if kind.name in method_classes() and (known is None or known.__qualname__ != kind.__qualname__):
        raise SettingsError(f"a method named {kind.name!r} exists already; give {kind.__qualname__} another name")
    _registered[kind.name] = kind
    return kind


def make_method(name: str, settings: Mapping[str, Any]) -> Method[Any]:
    """Build the method of this name with these settings.

    Raises:
        SettingsError: unknown method (with the nearest name), unknown key or unusable value.
    """
    known = method_classes()
    if name not in known:
        raise SettingsError(f"unknown method {name!r}; {hint(name, known)}known: {', '.join(sorted(known))}")
    kind = known[name]
    names = [field.name for field in dataclasses.fields(kind.Settings)]
    if unknown := [key for key in settings if key not in names]:
        raise SettingsError(
            f"method {name!r} has no setting {unknown[0]!r}; {hint(unknown[0], names)}"
            f"it has: {', '.join(names) or 'no settings'}"
        )
    try:
        return kind(TypeAdapter(kind.Settings).validate_python(dict(settings)))
    except ValidationError as error:
        raise SettingsError(f"method {name!r}: {explain(error, kind.Settings)}") from None


def _is_method(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Method) and isinstance(getattr(value, "name", None), str)
