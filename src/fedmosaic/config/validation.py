"""Validation of user-written tables; an error becomes one message that says what to change."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from fedmosaic.errors import SettingsError
from fedmosaic.nearest import hint, suggestion
from fedmosaic.registry import Registry

M = TypeVar("M", bound=BaseModel)

_UNKNOWN_KEY = {"extra_forbidden", "unexpected_keyword_argument"}


def validate(model: type[M], table: Mapping[str, Any], *, source: str, below: str = "") -> M:
    """Return a validated table; pydantic's report becomes one message a user can act on.

    Args:
        model: what the table is to become.
        table: as it was read.
        source: where it comes from; begins the message.
        below: the table's place in its source, e.g. ``settings``.

    Raises:
        SettingsError: names each offending key and value, and the nearest known key for an unknown one.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise SettingsError(f"{source}: {explain(error, model, below=below)}") from None


def explain(error: ValidationError, model: type[Any], *, below: str = "") -> str:
    """Return pydantic's report in a user's words.

    Args:
        error: the report.
        model: the model or dataclass that it is about.
        below: the key of the validated table in its source.
    """
    problems = error.errors()
    places = [problem["loc"] for problem in problems]
    inner = [problem for problem in problems if not _holds_others(problem["loc"], places)]
    return "; ".join(_describe(model, dict(problem), below) for problem in inner)


@dataclass(frozen=True)
class RegisteredName:
    """Takes a name of something registered; nothing is imported for it.

    Args:
        registry: which names there are.
    """

    registry: Registry

    def __call__(self, name: str) -> str:
        """Return the name.

        Raises:
            PydanticCustomError: there is none of this name.
        """
        try:
            return self.registry.check(name)
        except SettingsError as error:
            raise PydanticCustomError("unknown_name", "{reason}", {"reason": str(error)}) from None


def registered(registry: Registry) -> AfterValidator:
    """Return what makes a setting's string the name of something registered.

    Args:
        registry: of the kind.
    """
    return AfterValidator(RegisteredName(registry))


def _holds_others(place: tuple[int | str, ...], places: Sequence[tuple[int | str, ...]]) -> bool:
    """Whether a problem stands inside this one, e.g. a wrong entry in a list that lacks entries without it."""
    return any(len(place) < len(other) and other[: len(place)] == place for other in places)


def _describe(model: type[Any], problem: Mapping[str, Any], below: str) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join([below] * bool(below) + path)
    if problem["type"] in _UNKNOWN_KEY:
        return f"unknown key {key!r}; {suggestion(path[-1], _known_keys(model, path[:-1])) or 'remove it'}"
    if problem["type"] == "missing":
        return f"{key!r} is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not path or problem["type"] == "value_error":  # one of our own: it names what it is about
        return message
    choices = re.findall("'([^']*)'", problem["ctx"]["expected"]) if problem["type"] == "literal_error" else []
    if near := hint(str(problem["input"]), choices):
        message = f"{message}; {near.rstrip()}"
    return f"{key} = {_short(problem['input'])}: {message[0].lower()}{message[1:]}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known_keys(model: type[Any], path: Sequence[str]) -> list[str]:
    """The keys of the model that stands at a place below a model; empty where any key may stand."""
    kinds = [model]
    for part in path:
        kinds = [inner for kind in kinds for inner in _below(kind, part)]
    return [key for kind in kinds for key in _fields(kind)]


def _fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        return dict(get_type_hints(kind, include_extras=True))
    return {}


def _below(kind: Any, part: str) -> list[Any]:
    """The possible types of one key's value, or of one entry of a list or table."""
    if part in (fields := _fields(kind)):
        return _unwrapped(fields[part])
    arguments = [each for each in get_args(kind) if each is not Ellipsis]
    return [inner for each in arguments[-1:] for inner in _unwrapped(each)]


def _unwrapped(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _unwrapped(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [inner for each in get_args(kind) for inner in _unwrapped(each)]
    return [kind]
