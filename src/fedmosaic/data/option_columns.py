"""Options that a record lists beside its question: as a list, a text, an object, or columns A, B, C, ..."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from fedmosaic.data.formats.plain import listed, spelled
from fedmosaic.data.options import match_answer
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError

OPTIONS = ("options", "choices")
"""Names under which a record lists the answers to choose from."""

_NOTHING: tuple[object, ...] = (None, "", [], {})


@dataclass(frozen=True, slots=True)
class Options:
    """The answers to choose from.

    Attributes:
        texts: in order.
        marks: the letter of each, or what the record calls it.
        numbered: whether a number as the answer is a place, from 0: the options are texts, not numbers.
    """

    texts: tuple[str, ...]
    marks: tuple[str, ...]
    numbered: bool

    def chosen(self, answer: str, number: int | None) -> str:
        """Return the option that an answer names.

        Args:
            answer: an option's text or mark.
            number: the answer, where it is a number and no text.

        Raises:
            DataError: it names none, or one by its text and another by its mark or place.
        """
        by_text, by_mark = match_answer(answer, self.texts), match_answer(answer, self.marks)
        if by_text is None and number is not None:
            by_text = next((text for text in self.texts if _value(text) == number), None)
        named = {by_text, self.texts[self.marks.index(by_mark)] if by_mark is not None else None}
        if number is not None and self.numbered:
            if not 0 <= number < len(self.texts) and by_text is None:
                raise DataError(f"the answer is {number}; its {len(self.texts)} options are numbered from 0")
            named.add(self.texts[number] if 0 <= number < len(self.texts) else None)
        found = sorted(text for text in named if text is not None)
        if not found:
            raise DataError(
                f"the answer {quoted(answer)} is not one of the options {quoted(list(self.texts))}; "
                "give the text of one, or its letter"
            )
        if len(found) > 1:
            raise DataError(
                f"the answer {quoted(answer)} is the text of one option and the letter or place of another, of "
                f"{quoted(list(self.texts))}; give the text, and options that are not letters or places of others"
            )
        return found[0]

    def told_in(self, question: str) -> str:
        """Return a question that names all options: itself, or with a list of them at its end.

        Args:
            question: as the record has it.
        """
        rest = question
        for option in sorted(self.texts, key=len, reverse=True):  # what names a longer one names no word of it
            rest, count = re.subn(_by_itself(option), "\0", rest)
            if not count:
                return f"{question}\nChoice list:[{', '.join(map(_item, self.texts))}]"
        return question


def lettered(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return those of the columns A, B, C, ... of a record that are filled; none where they are no options.

    Args:
        record: the record.
    """
    found = tuple(letter for letter in ascii_uppercase if record.get(letter) not in _NOTHING)
    return found if "A" in record and ("B" in record or len(found) > 1) else ()


def options_of(record: Mapping[str, Any]) -> Options | None:
    """Return the options that a record lists, or None if it lists none.

    Args:
        record: the record, with the usual names of keys.

    Raises:
        DataError: what stands there is no list of texts, or a column of options is left out.
    """
    value = next((record[key] for key in OPTIONS if record.get(key) not in _NOTHING), None)
    if value is None:
        return _in_columns(record, lettered(record))
    value = listed(value)
    if isinstance(value, str):
        value = _cut(value)
    if isinstance(value, Mapping) and {"text", "label"} <= value.keys():  # ARC's
        value = _paired(value["label"], value["text"])
    if isinstance(value, Mapping):
        value = {mark: text for mark, text in value.items() if text is not None}  # Arrow gives all records all keys
        return Options(tuple(map(_text, value.values())), tuple(map(str, value)), numbered=False)
    if not isinstance(value, list | tuple):
        raise DataError(f"its options are {quoted(value)}; expected a list of texts, or texts with | between them")
    numbered = all(isinstance(each, str) for each in value)
    return Options(tuple(map(_text, value)), tuple(ascii_uppercase[: len(value)]), numbered)


def _in_columns(record: Mapping[str, Any], letters: tuple[str, ...]) -> Options | None:
    expected = tuple(ascii_uppercase[: max(2, len(letters))])
    if letters and letters != expected:
        raise DataError(
            f"its options are in the columns {', '.join(letters)}; expected {', '.join(expected)}, with none left out"
        )
    return Options(tuple(_text(record[key]) for key in letters), letters, numbered=True) if letters else None


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not _is_finite(value):
        raise DataError(f"one of its options is {quoted(value)}; expected texts")
    return spelled(value).strip()


def _value(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_finite(value: str | float) -> bool:
    return isinstance(value, str) or math.isfinite(value)


def _cut(text: str) -> list[str]:
    """Return the items of a text; one in brackets that is no list (a table's own way to print one) is refused."""
    if text.lstrip()[:1] in ("[", "{", "("):
        raise DataError(f"its options are {quoted(text)}, which is no JSON list; write a|b|c or a JSON list")
    return text.split("|" if "|" in text else ";" if ";" in text else ",")


def _paired(marks: object, texts: object) -> dict[str, object]:
    if not isinstance(marks, list) or not isinstance(texts, list) or len(marks) != len(texts):
        raise DataError(f"its options are labels {quoted(marks)} and texts {quoted(texts)}; expected as many of each")
    return dict(zip(map(str, marks), texts, strict=True))


def _by_itself(option: str) -> str:
    """Return a pattern that finds an option, but neither in a longer word nor in a longer number."""
    before = r"(?<![\w.])(?<!(?<![\w\0])[-\u2212])" if option[:1].isdigit() else r"(?<!\w)"  # no digits, no minus sign
    after = r"(?!\w|\.\d)" if option[-1:].isdigit() else r"(?!\w)"
    return f"{before}{re.escape(option)}{after}"


def _item(option: str) -> str:
    """Return an option as the list in a question spells it: in quotes where a comma or bracket would divide it."""
    return f'"{option}"' if re.search(r"[,;|\[\]]", option) and '"' not in option else option
