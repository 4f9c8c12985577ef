"""Parses lists of options in a prompt: ``Choice list:[cat, dog]``, ``Options: red | green``, ``["Rome, Italy", ...]``.

Quoted items may hold anything, in the quoting of JSON, of Python or of print. In lists without quotes a separator
within brackets does not separate.
"""

from __future__ import annotations

import json
import re
from functools import cache

_LABEL = re.compile(r"(?:choice list|choices|(?<![^\W_])options?)\s*(?P<colon>:?)\s*", re.IGNORECASE)
_CLOSERS = {"[": "]", "(": ")"}
_QUOTES = {"'": "'", '"': '"', "“": "”", "„": "“”", "”": "”", "‘": "’", "‚": "‘’", "«": "»", "「": "」"}  # noqa: RUF001
_PIPED_LINE = re.compile(r"[^\n\[\]]*\|[^\n]*")
_GAP = re.compile(r"\s*[,;|]?\s*")
_LINE_END = r"\.?[ \t]*(?:\n|$)"
_ESCAPE = re.compile(r"""(?P<code>(?:\\u[0-9a-fA-F]{4})+)|\\(?P<sign>["'\\/])""")


def listed_options(prompt: str) -> tuple[str, ...]:
    """Return the options of the first list of at least two in a prompt; empty if there is none.

    Args:
        prompt: the user's text.
    """
    for label in _LABEL.finditer(prompt):
        items = _items(prompt, label.end(), after_colon=bool(label["colon"]))
        if len(items) >= 2:
            return items
    return ()


def announces_options(prompt: str) -> bool:
    """Return whether a prompt announces options (``Choices:``), whether or not they can be parsed.

    Args:
        prompt: the user's text.
    """
    return any(label["colon"] for label in _LABEL.finditer(prompt))


def _items(text: str, at: int, *, after_colon: bool) -> tuple[str, ...]:
    """Return the items of the list that begins at a place; without brackets it must be quoted or hold ``|``."""
    opener = text[at : at + 1]
    if opener in _CLOSERS:
        quoted = _quoted(text, at + 1, re.escape(_CLOSERS[opener]))
        return quoted or (_unquoted(_inside(text, at)) if opener == "[" else ())
    if not after_colon:
        return ()
    line = _PIPED_LINE.match(text, at)
    return _quoted(text, at, _LINE_END) or (_unquoted(line.group()) if line else ())


@cache
def _item(end: str) -> re.Pattern[str]:
    """An item in quotes, up to the first closing quote after which it can end ('a dog's tail' is one), or without."""
    quoted = "|".join(rf"{opener}((?:\\.|[^\\])*?)[{closers}]" for opener, closers in _QUOTES.items())
    plain = rf"(?P<plain>(?!{end})[^\s,;|'\"](?:(?!{end})[^,;|])*)"
    return re.compile(rf"(?:{quoted})(?=\s*(?:[,;|]|{end})|\s+['\"])|{plain}", re.DOTALL)


def _quoted(text: str, at: int, end: str) -> tuple[str, ...]:
    """Return the items of a list that has some in quotes (all, where nothing encloses it); else nothing."""
    items: list[str] = []
    unquoted = 0
    while item := _item(end).match(text, at):
        body = next(group for group in item.groups() if group is not None)
        unquoted += item["plain"] is not None
        items.append((body if item["plain"] else _ESCAPE.sub(_unescaped, body)).strip())
        gap = _GAP.match(text, item.end())
        at = gap.end() if gap else item.end()
        if re.compile(end).match(text, at) or (end == _LINE_END and "\n" in text[item.end() : at]):
            return tuple(items) if unquoted < (1 if end == _LINE_END else len(items)) else ()
    return ()


def _unescaped(escape: re.Match[str]) -> str:
    """Return the characters that an escape sequence stands for; a backslash before a letter stays, as in LaTeX."""
    return str(escape["sign"] or json.loads(f'"{escape["code"]}"'))


def _inside(text: str, at: int) -> str:
    """Return the content of the bracket that opens at a position; up to the first closing one if they do not pair."""
    depth = 0
    for place in range(at, len(text)):
        depth += (text[place] == "[") - (text[place] == "]")
        if depth == 0:
            return text[at + 1 : place]
    return text[at + 1 : max(at + 1, text.find("]", at))]


def _unquoted(text: str) -> tuple[str, ...]:
    """Cut a text at its separators: at ``|`` where it has one, else at ``;``, else at commas."""
    separator = next((sign for sign in "|;" if sign in text), ",")
    depth, paired, items = 0, True, [""]
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        paired = paired and depth >= 0
        if character == separator and depth == 0:
            items.append("")
        else:
            items[-1] += character
    if depth or not paired:  # then brackets mean nothing
        items = text.split(separator)
    return tuple(item for item in map(_without_quotes, items) if item)


def _without_quotes(item: str) -> str:
    item = item.strip()
    return item[1:-1].strip() if len(item) > 1 and item[0] == item[-1] and item[0] in "'\"" else item
