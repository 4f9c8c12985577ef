"""Methods that Python code brings as classes."""

from __future__ import annotations

from typing import Any

from fedmosaic.errors import SettingsError
from fedmosaic.methods.base import Method
from fedmosaic.registry import METHODS

MethodChoice = str | type[Method[Any]]
"""A method's name, or its class."""


def method_names() -> list[str]:
    """Return the names of all methods: built-in ones, those of installed packages, and registered ones."""
    return list(METHODS)


def register_method(kind: type[Method[Any]]) -> type[Method[Any]]:
    """Make a method known by its name in this process; also a class decorator.

    Args:
        kind: the class. The same class, defined again (as in a notebook), takes the place of the earlier one.

    Returns:
        The class.

    Raises:
        SettingsError: it is no method, or its name is that of another one.
    """
    return METHODS.register(kind)


def name_of(method: MethodChoice) -> str:
    """Return a method's name; a class is registered.

    Args:
        method: a name, or a class.

    Raises:
        SettingsError: it is neither a name nor a method class, or the class has the name of another one.
    """
    if isinstance(method, str):
        return method
    if not isinstance(method, type):
        raise SettingsError(f"method is a {type(method).__name__} object; give a name or a class")
    return METHODS.register(method).name
