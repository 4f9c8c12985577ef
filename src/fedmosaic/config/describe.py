"""What settings there are, read from their classes: key, values, default and the text below the field."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel
from pydantic_core import PydanticUndefined

from fedmosaic.config.validation import RegisteredName

_OF_THE_PAPER = re.compile(r"(?<![\"`])\bpaper\b|\bauthors\b")


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: as ``--set KEY=VALUE`` takes it.
        values: what it can be, where these are names; else empty.
        default: as ``--set`` takes it; empty where there is none.
        meaning: in words; empty where the key says it.
        source: what the words say about the paper's or its authors' value; empty for none.
    """

    key: str
    values: tuple[str, ...]
    default: str
    meaning: str
    source: str


def described(kind: type[Any], prefix: str = "") -> Iterator[Setting]:
    """Yield the settings of a class, those of classes in its fields in the place of these.

    Args:
        kind: a pydantic model or a dataclass.
        prefix: put before each key, e.g. ``method.``.
    """
    hints, meanings = get_type_hints(kind, include_extras=True), _texts_below_fields(kind)
    for name, default in _defaults(kind):
        if _has_fields(type(default)):
            yield from described(type(default), f"{prefix}{name}.")
            continue
        meaning = meanings.get(name, "")
        told = [each for each in re.split(r"(?<=[.;])\s+", meaning) if _OF_THE_PAPER.search(each)]
        yield Setting(f"{prefix}{name}", _names(hints[name]), _literal(default), meaning, " ".join(told))


def _defaults(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    if issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield name, field.get_default(call_default_factory=True)
    else:
        for each in dataclasses.fields(kind):
            yield each.name, each.default if each.default_factory is dataclasses.MISSING else each.default_factory()


def _has_fields(kind: type[Any]) -> bool:
    return issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)


def _texts_below_fields(kind: type[Any]) -> dict[str, str]:
    """The strings that stand below fields, which Python itself does not keep; those of base classes, too."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not _has_fields(each) or each is BaseModel:
            continue
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError):  # a class typed at a prompt or made by exec has no source: no texts either
            continue
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found.pop(field.target.id, None)
                if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                    found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _names(hint: Any) -> tuple[str, ...]:
    """The names that a field takes: of a literal type, or of a registry."""
    if get_origin(hint) is Literal:
        return tuple(map(str, get_args(hint)))
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        for each in metadata:
            named = each.func if isinstance(each, AfterValidator) else each
            if isinstance(named, RegisteredName):
                return tuple(named.registry)
        return _names(inner)
    return ()


def _literal(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if value is None or value is PydanticUndefined or value is dataclasses.MISSING:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
