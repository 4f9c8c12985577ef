"""Which option a generated text means, by the rules of the published evaluation made right (METHODS D.3).

The published rules take the first listed option that is a *substring* of the text, so that "red" answers for "reddish"
and a short option for the longer one that contains it, and read the article "a" as option A. Here options match as
whole words, the longest match wins, of several the one that stands first in the text, and a lone letter counts only if
it is written as one: "B", "(b)", "option b", "b." but not the article in "a dog".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_YES = {"yes": "positive", "no": "negative", "true": "positive", "false": "negative"}


def match_option(text: str, options: Sequence[str]) -> str | None:
    """Return the option that a generated text means, or None.

    Args:
        text: what the model wrote.
        options: the options as they were shown; single letters ("A", "B", ...) are matched as letters.
    """
    said = _normal(text)
    for option in options:
        if said == _normal(option):
            return option
    if all(re.fullmatch(r"[A-Za-z]", option) for option in options):
        return _letter(text, options)
    return _longest_words(said, options) or _synonym(said, options)


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def _longest_words(said: str, options: Sequence[str]) -> str | None:
    """The option whose words stand in the text; a match inside a longer option's match does not count."""
    found: list[tuple[int, int, str]] = []
    for option in options:
        for match in re.finditer(rf"(?<!\w){re.escape(_normal(option))}(?!\w)", said) if _normal(option) else ():
            found.append((match.start(), match.end(), option))
    outermost = [one for one in found if not any(o[0] <= one[0] and one[1] <= o[1] and o[:2] != one[:2] for o in found)]
    return min(outermost)[2] if outermost else None


def _letter(text: str, options: Sequence[str]) -> str | None:
    """The first letter that is written as a choice."""
    for match in re.finditer(r"(?<![A-Za-z'])\(?([A-Za-z])\b([.):,]?)", text):
        letter, mark = match.group(1), match.group(2)
        article = letter in "aA" and not mark and re.match(r"\s+[a-z]", text[match.end() :]) is not None
        pronoun = letter == "I" and "I" not in options
        chosen = next((option for option in options if option.lower() == letter.lower()), None)
        if chosen is not None and not article and not pronoun:
            return chosen
    return None


def _synonym(said: str, options: Sequence[str]) -> str | None:
    """Yes and no stand for Positive and Negative, and for true and false."""
    meaning = {_YES.get(_normal(option), _normal(option)): option for option in options}
    for word in said.split():
        if word in _YES and _YES[word] in meaning:
            return meaning[_YES[word]]
    return None
