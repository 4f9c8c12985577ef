"""The elements of a JSON list one by one, without holding the list."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, TextIO

_CHUNK = 2**20  # characters that are read at a time
_LONGEST = 2**28  # characters of one element
_AFTER = re.compile(r"[ \t\r\n]*(?P<sign>[,\]])[ \t\r\n]*")


def elements(
    file: TextIO, pairs: Callable[[Sequence[tuple[str, object]]], dict[str, object]]
) -> Generator[object, None, str | None]:
    """Yield the elements of a list.

    Args:
        file: text that begins with ``[``.
        pairs: makes an object of its keys and values.

    Returns:
        What follows the list, at most a chunk: empty as a rule. None if the element after those that were yielded is
        damaged, too long, or missing.
    """
    decoder = json.JSONDecoder(object_pairs_hook=pairs)
    text = file.read(_CHUNK).lstrip()[1:].lstrip()
    at = 0
    while True:
        found = _element(decoder, text, at)
        if found is None:
            left = text[at:]
            more = file.read(max(_CHUNK, len(left))) if len(left) < _LONGEST else ""
            if not more:
                return None
            text, at = left + more, 0
            continue
        value, at, sign = found
        yield value
        if sign == "]":
            return (text[at:] + file.read(_CHUNK)).strip()


def _element(decoder: json.JSONDecoder, text: str, at: int) -> tuple[Any, int, str] | None:
    """Return an element, where the next one begins, and the sign between them; None if the text does not hold them."""
    try:
        value, end = decoder.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    after = _AFTER.match(text, end)
    if after is None or (after["sign"] == "," and after.end() == len(text)):
        return None
    return value, after.end(), after["sign"]
