"""Finds the answer options in the prompts of published multiple-choice data.

The published files do not list options separately; they are part of the text, in one of several forms. A letter or
number counts as an option's mark only with punctuation (``A.``, ``(A)``, ``Image A:``), so an article "a" never does.
Small letters also number items in prose, so these mark options only where the answer names one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from fedmosaic.data.option_lists import listed_options
from fedmosaic.data.texts import normalised, quoted
from fedmosaic.errors import DataError

_WIDE = r"\u3001\uff0e\uff09\uff1a"  # after a mark in Chinese and Japanese, where no space need follow
_LETTERED, _SMALL = (
    re.compile(
        rf"(?:^|\s)[(\uff08]?(?P<mark>[{letters}])[.):{_WIDE}]\s*(?P<text>\S.*?)"
        rf"(?=\s+[(\uff08]?[{letters}](?:[.):]\s|[{_WIDE}])|\n|$)"
    )
    for letters in (r"A-Z\uff21-\uff3a", r"a-z\uff41-\uff5a")
)
_NUMBERED = re.compile(r"(?:^|\n)\s*\(?(?P<mark>[1-9]\d?)[.):]\s*(?P<text>\S[^\n]*)")
_IMAGE = re.compile(r"\bImage (?P<mark>[A-Z])\s*:")
_AROUND = " \t\r\n'\"“”‘’«»()"  # noqa: RUF001
_PAIRS = (
    (re.compile(r"\byes\s*(?:or|/|,)\s*no\b", re.IGNORECASE), ("Yes", "No")),
    (re.compile(r"\btrue\s*(?:or|/|,)\s*false\b", re.IGNORECASE), ("True", "False")),
)


def parse_options(prompt: str, answer: str) -> tuple[str, ...] | None:
    """Return the options that a prompt offers, or None if it offers none.

    Args:
        prompt: the user's text.
        answer: the gold answer: where options are marked by letters, it tells whether letters or texts are answered.

    Returns:
        The options, spelled as in the prompt. They need not include the answer: the caller checks that.

    Raises:
        DataError: the answer is the mark of one option and the text of another.
    """
    if listed := listed_options(prompt):
        return listed
    for pattern in (_IMAGE, _LETTERED, _NUMBERED, _SMALL):
        marked = [(m["mark"], (m.groupdict().get("text") or "").strip()) for m in pattern.finditer(prompt)]
        if _in_order([unicodedata.normalize("NFKC", mark).upper() for mark, _ in marked]):
            options = _as_answered(marked, answer, image=pattern is _IMAGE)
            if pattern is not _SMALL or match_answer(answer, options):
                return options
    for wording, pair in _PAIRS:
        if wording.search(prompt):
            return pair
    return None


def match_answer(answer: str, options: tuple[str, ...]) -> str | None:
    """Return the option that an answer names, or None if it names none, or several.

    An exact match has precedence. Without one, quotes, brackets and a final full stop are ignored; still without one,
    case and the spelling of characters and spaces too.

    Args:
        answer: the answer's text.
        options: the options, as in the prompt.
    """
    exact = answer.strip()
    if exact in options:
        return exact
    forms: tuple[Callable[[str], str], ...] = (_bare, _plain)
    for form in forms:
        wanted = form(answer)
        found = [option for option in options if wanted and form(option) == wanted]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _bare(text: str) -> str:
    return text.strip(_AROUND).rstrip(".").strip(_AROUND)


def _plain(text: str) -> str:
    return normalised(_bare(text))


def _in_order(marks: list[str]) -> bool:
    """Return whether marks are A, B, ... or 1, 2, ...: at least two, none left out, none twice."""
    if len(marks) < 2:
        return False
    if marks[0].isalpha():
        return marks == [chr(ord("A") + i) for i in range(len(marks))]
    return marks == [str(i + 1) for i in range(len(marks))]


def _as_answered(marked: list[tuple[str, str]], answer: str, *, image: bool) -> tuple[str, ...]:
    """Return the marks, or the options' texts, whichever the answer is spelled as; an exact match has precedence."""
    marks = tuple(mark for mark, _ in marked)
    if image:
        return tuple(f"Image {mark}" for mark in marks) if _plain(answer).startswith("image ") else marks
    texts = tuple(text for _, text in marked)
    exact = answer.strip()
    if exact in marks and exact in texts and marks.index(exact) != texts.index(exact):
        raise DataError(
            f"the answer {quoted(exact)} is the mark of one option and the text of another; "
            "list the options as Choice list:[...] instead"
        )
    return texts if exact not in marks and match_answer(answer, texts) else marks
