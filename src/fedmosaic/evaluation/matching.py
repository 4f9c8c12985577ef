"""Which option a generated text means: the rules of the published evaluation, corrected.

The published rules (docs/method-facts.md#option-matching) take the first listed option that is a *substring* of the
text, so that "red" answers for "reddish" and a short option for the longer one that contains it, and read the article
"a" as option A. Here a text that is an option as it stands means that option. Otherwise options match as whole words
(:mod:`fedmosaic.evaluation.word_tokenizer`), the longest match wins, of several the one that stands first in the text,
of options that differ only in case or marks the one with the text's own spelling; and a lone letter counts only if it
is written as one: "B", "(b)", "option b", "b." but not the article in "a dog".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fedmosaic.evaluation.word_tokenizer import normalised_word, split_words, tokenize, with_spaces

_YES = {"yes": "positive", "no": "negative", "true": "positive", "false": "negative"}
_LONE_LETTER = re.compile(r"(?<![^\W\d_])(?<!')\(?([^\W\d_])\b([.):,、]?)")


def match_option(text: str, options: Sequence[str]) -> str | None:
    """Return the option that a generated text means, or None.

    Args:
        text: what the model wrote.
        options: the options as they were shown; single letters ("A", "B", ...) are matched as letters.
    """
    for option in options:
        if text.strip() == option.strip():
            return option
    if all(_is_letter(option) for option in options):
        return _letter(text, options)
    return _longest_match(text, options) or _synonym(text, options)


class _Match(NamedTuple):
    """Where an option's words stand in a text, and how far its spelling is from what stands there."""

    start: int
    end: int
    unlike: tuple[bool, bool, int]
    option: str

    def inside(self, other: _Match) -> bool:
        """Whether the other one has these words and more."""
        mine, theirs = (self.start, self.end), (other.start, other.end)
        return theirs != mine and theirs[0] <= mine[0] and mine[1] <= theirs[1]


def _longest_match(text: str, options: Sequence[str]) -> str | None:
    """The option whose words stand in the text; a match inside a longer option's match does not count."""
    found = [match for option in options for match in _matches(text, option)]
    outermost = [one for one in found if not any(one.inside(other) for other in found)]
    return min(outermost, key=lambda one: (one.start, one.unlike)).option if outermost else None


def _matches(text: str, option: str) -> Iterator[_Match]:
    there, wanted = ([word.text for word in tokenize(each)] for each in (text, option))
    plain, sought = [normalised_word(word) for word in there], [normalised_word(word) for word in wanted]
    for start in range(len(there) - len(wanted) + 1 if wanted else 0):
        end = start + len(wanted)
        if plain[start:end] == sought:
            yield _Match(start, end, (there[start:end] != wanted, option not in text, -len(option)), option)


def _is_letter(option: str) -> bool:
    """Whether an option is one letter of an alphabet, which has two cases."""
    return len(option) == 1 and option.lower() != option.upper()


def _letter(text: str, options: Sequence[str]) -> str | None:
    """The first letter that is written as a choice."""
    said = with_spaces(text)
    for match in _LONE_LETTER.finditer(said):
        letter, mark = match.groups()
        chosen = next((o for same in (str, str.casefold) for o in options if same(o) == same(letter)), None)
        pronoun = letter == "I" and "I" not in options
        if chosen is not None and not pronoun and (mark or not _is_word(letter, said[match.end() :])):
            return chosen
    return None


def _is_word(letter: str, after: str) -> bool:
    """Whether a lone letter is a word of its sentence: the article in "a dog", or "в", "η", ... before a word."""
    following = re.match(r"\s+([^\W\d_])", after)
    small_before_word = following is not None and following[1].islower()
    return small_before_word and (letter in "aA" or (not letter.isascii() and letter.islower()))


def _synonym(text: str, options: Sequence[str]) -> str | None:
    """Yes and no stand for Positive and Negative, and for true and false."""
    plain = {option: " ".join(split_words(option)) for option in options}
    meaning = {_YES.get(plain[option], plain[option]): option for option in options}
    for word in split_words(text):
        if word in _YES and _YES[word] in meaning:
            return meaning[_YES[word]]
    return None
