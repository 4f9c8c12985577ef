"""What all formats make of a record, and their protocol."""

from __future__ import annotations

import ast
import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeGuard

from fedmosaic.data.sample import IMAGE_MARK
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError

Turn = tuple[str, str]
"""Who speaks, and the text; images are marked in it by ``<image>``."""

IMAGE_KEYS = ("image", "images", "image_path", "image_paths", "file_name", "img", "picture")
"""Names under which a record lists its images."""

_EXACT = 2**53  # up to here, a float has all digits of a whole number

# How PNG, JPEG, GIF, WebP and BMP begin, in base64; no path is so long and has no full stop.
_BASE64 = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk[0-3])[A-Za-z0-9+/\s]{80,}={0,2}\s*$")


@dataclass(frozen=True, slots=True)
class Plain:
    """A record's content.

    Attributes:
        turns: in order.
        shown: for each image that a part of a message shows, the path or data URI that stands in the part, or None
            where it is the next of the record's list; a mark in a text is None, too.
        number: the last answer, where the record has a number in place of a text.
        unused: keys of the format whose content is left aside.
    """

    turns: tuple[Turn, ...]
    shown: tuple[str | None, ...] = ()
    number: int | None = None
    unused: tuple[str, ...] = ()


class Format(Protocol):
    """A form of records; registered as a class, see :mod:`fedmosaic.registry`.

    Attributes:
        name: as ``fedmosaic data check`` shows it.
        keys: the record's keys that are read.
        rank: of several formats that claim a record, the one with the lowest rank is meant.
    """

    name: ClassVar[str]
    keys: ClassVar[frozenset[str]]
    rank: ClassVar[int]

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether a record has this form, going by its keys.

        Args:
            record: the decoded record.
        """
        ...

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return the content of a record that was claimed.

        Args:
            record: the decoded record.

        Raises:
            DataError: it has not this form in full.
        """
        ...


def has(record: Mapping[str, Any], *keys: str) -> bool:
    """Return whether a record has something under all of some keys.

    Args:
        record: the record.
        keys: their names.
    """
    return all(record.get(key) is not None for key in keys)


def text_of(record: Mapping[str, Any], key: str) -> str:
    """Return the text under a key; empty if there is none.

    Args:
        record: the record.
        key: its name.

    Raises:
        DataError: it is no text and no (finite) number.
    """
    value = record.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{key!r} is {quoted(value)}; expected a text")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{key!r} is {value}, which stands for a missing value; expected a text")
    return spelled(value)


def spelled(value: str | float) -> str:
    """Return a cell as a text; whole numbers without the ``.0`` that pandas gives to a column with empty cells.

    Args:
        value: of the cell.
    """
    number = number_of(value)
    return str(value if number is None else number)


def number_of(value: object) -> int | None:
    """Return a value that is a whole number; None if it is none.

    Args:
        value: any.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def listed(value: object) -> object:
    """Return a list that is written in a text, as JSON or as Python prints it, as in a table; all else as it is.

    Args:
        value: any.
    """
    if not isinstance(value, str) or value.lstrip()[:1] != "[":
        return value
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return parse(value.strip())
    return value


def system_turns(record: Mapping[str, Any]) -> list[Turn]:
    """Return the system message under ``system``, a text or a list of text parts, as a list of one turn, or none.

    Args:
        record: the record.

    Raises:
        DataError: it is no text.
    """
    value = record.get("system")
    parts = [{"system": part.get("text")} for part in value] if is_parts(value) else [record]
    text = "\n".join(text_of(part, "system") for part in parts)
    return [("system", text)] if text.strip() else []


def is_parts(value: object) -> TypeGuard[list[Mapping[str, Any]]]:
    """Return whether a value is a list of parts that are texts.

    Args:
        value: any.
    """
    return isinstance(value, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value)


def history_turns(record: Mapping[str, Any]) -> list[Turn]:
    """Return the questions and answers under ``history``: a list of pairs.

    Args:
        record: the record.

    Raises:
        DataError: it is no such list.
    """
    turns: list[Turn] = []
    past = listed(record.get("history")) or []
    for pair in past if isinstance(past, list) else [past]:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise DataError(f"'history' holds {quoted(pair)}; expected pairs [question, answer]")
        turns += [("user", pair[0]), ("assistant", pair[1])]
    return turns


def image_of(value: object) -> str:
    """Return an image as a path or a data URI.

    Args:
        value: a path, URI, bytes, or a table that holds one of these: {bytes, path}, {url}, a source as in
            Anthropic's API.

    Raises:
        DataError: it is none of these.
    """
    if isinstance(value, str) and value:
        return f"data:;base64,{value}" if _BASE64.match(value) else value
    if isinstance(value, bytes | bytearray) and value:
        return f"data:;base64,{base64.b64encode(value).decode()}"
    if isinstance(value, Mapping):
        if value.get("type") == "base64" or value.get("base64"):
            return f"data:{value.get('media_type') or ''};base64,{value.get('data') or value.get('base64')}"
        for key in ("bytes", "path", "url", "image"):
            if value.get(key):
                return image_of(value[key])
    raise DataError(f"{quoted(value)} is no image; expected a path, a data URI, bytes, or an object with one of these")


def listed_images(record: Mapping[str, Any]) -> list[str]:
    """Return the images that a record lists, under whichever of the usual names.

    Args:
        record: the record.

    Raises:
        DataError: there are no images under such a name, or there are other ones under two.
    """
    found: dict[str, list[str]] = {}
    for key in IMAGE_KEYS:
        value = listed(record.get(key))
        each: Iterable[object] = value if isinstance(value, list | tuple) else [value]
        images = [image_of(image) for image in each if image not in (None, "")]
        if images:
            found[key] = images
    lists = list(found.values())
    if any(other != lists[0] for other in lists[1:]):
        raise DataError(f"{' and '.join(map(repr, found))} list different images; keep one of them")
    return lists[0] if lists else []


def with_images(plain: Plain, images: Sequence[str]) -> tuple[list[Turn], list[str]]:
    """Return the turns, and the images in the order of their marks.

    Images that no mark and no part places are shown before the first question.

    Args:
        plain: of the record.
        images: that the record lists.
    """
    left = iter(images)
    turns, shown = list(plain.turns), list(plain.shown)
    if images and not shown:
        first = next((i for i, (role, _) in enumerate(turns) if role in ("user", "human")), 0)
        role, text = turns[first]
        turns[first] = (role, "\n".join([*[IMAGE_MARK] * len(images), text]))
        shown = [None] * len(images)
    placed = [image if image is not None else next(left, None) for image in shown]
    return turns, [image for image in [*placed, *left] if image is not None]
