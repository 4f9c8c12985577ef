"""Finds the answer options in the prompts of published multiple-choice data.

The published files do not list options apart; they stand in the text, in one of several ways. A letter or number is
only read as an option where it marks one (``A.``, ``(A)``, ``Image A:``): an article "a" never is.
"""

from __future__ import annotations

import re

_LIST = re.compile(r"(?:choice list|choices|options?|answer choices)\s*:?\s*\[(?P<items>[^\]]+)\]", re.IGNORECASE)
_BARE_LIST = re.compile(
    r"(?:choice list|choices|options?|answer choices)\s*:\s*(?P<items>[^\n\[\]]*\|[^\n]*)", re.IGNORECASE
)
_LETTERED = re.compile(r"(?:^|\s)\(?(?P<mark>[A-H])[.):]\s*(?P<text>\S.*?)(?=\s+\(?[A-H][.):]\s|\n|$)")
_NUMBERED = re.compile(r"(?:^|\n)\s*\(?(?P<mark>[1-9])[.):]\s*(?P<text>\S[^\n]*)")
_IMAGE = re.compile(r"\bImage (?P<mark>[A-H])\s*:")
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
        The options, spelled as the prompt has them. They need not hold the answer: the caller checks that.
    """
    for pattern in (_LIST, _BARE_LIST):
        found = pattern.search(prompt)
        if found:
            return _items(found["items"])
    for pattern in (_IMAGE, _LETTERED, _NUMBERED):
        marked = [(m["mark"], m.groupdict().get("text") or "") for m in pattern.finditer(prompt)]
        if _in_order([mark for mark, _ in marked]):
            return _as_answered(marked, answer, image=pattern is _IMAGE)
    for wording, pair in _PAIRS:
        if wording.search(prompt):
            return pair
    return None


def match_answer(answer: str, options: tuple[str, ...]) -> str | None:
    """Return the option that an answer names (case and a final full stop do not count), or None."""
    wanted = _plain(answer)
    return next((option for option in options if _plain(option) == wanted), None)


def _plain(text: str) -> str:
    return text.strip().rstrip(".").strip("'\"() ").casefold()


def _items(text: str) -> tuple[str, ...]:
    separator = "|" if "|" in text else ","
    items = (item.strip().strip("'\"").strip() for item in text.split(separator))
    return tuple(item for item in items if item)


def _in_order(marks: list[str]) -> bool:
    """Whether marks are A, B, ... or 1, 2, ...: at least two, none left out, none twice."""
    if len(marks) < 2:
        return False
    first = "A" if marks[0].isalpha() else "1"
    return marks == [chr(ord(first) + i) for i in range(len(marks))]


def _as_answered(marked: list[tuple[str, str]], answer: str, *, image: bool) -> tuple[str, ...]:
    marks = tuple(mark for mark, _ in marked)
    if image and _plain(answer).startswith("image "):
        return tuple(f"Image {mark}" for mark in marks)
    texts = tuple(text.strip() for _, text in marked)
    return texts if not image and match_answer(answer, texts) else marks
