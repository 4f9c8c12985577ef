"""Word tokenizer for all scripts, used by token F1, ROUGE-L and the matching of options.

Texts are read in Unicode's compatibility form (NFKC) and compared case-folded. A word is

- a run of letters and digits, each letter with its combining marks (``हिन्दी`` is one word);
- a single character with its marks, where a script puts no spaces between words: Han, Kana, Thai, Lao, Khmer, Burmese
  and their like (Korean has spaces; Tibetan marks its syllables, which are its words here);
- a number as a whole: sign, decimal point or comma and thousands commas are part of it (``-5``, ``3.5``, ``1,000``,
  also ``12:30`` and ``1/2``), the digits of all scripts are the same (``५`` is ``5``), and raised, lowered and circled
  digits and fractions are separate from digits before them (``5²`` is not ``52``, ``1½`` not ``11/2``);
- a symbol: a pictograph (an emoji with its modifiers) or a sign of mathematics, currency and the like.

Punctuation separates words and is none, unless a text has nothing but punctuation and signs: then each run of them is.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

_UNSPACED_SCRIPTS = (
    "CJK", "IDEOGRAPHIC", "KANGXI", "HIRAGANA", "KATAKANA", "BOPOMOFO", "YI ", "TANGUT", "KHITAN", "NUSHU",
    "THAI", "LAO", "KHMER", "MYANMAR", "TAI ", "NEW TAI", "JAVANESE", "BALINESE",
)  # fmt: skip
"""Beginnings of the Unicode names of characters of these scripts."""
_FIRST_PICTOGRAPH = 0x2190
"""Signs before it (of degrees, copyright ...) belong to texts."""
_PRESENTATION_MARKS = re.compile("[\ufe00-\ufe0f\u20e3\U000e0100-\U000e01ef]")
"""Marks that only select how the character before them is drawn."""
_EQUIVALENTS = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
    **dict.fromkeys("\u2044\u2215", "/"),
    "\u066b": ".",
    "\u066c": ",",
    "\u200b": " ",  # a place where a line may break: between words
}
_KINDS = {"-": "-", "+": "+", ".": ".", ",": ",", ":": ":", "/": "/", "%": ")", "'": ")", '"': ")", "\u200d": "J"}
_OF_CATEGORY = {"Nd": "D", "Sc": "$", "Sm": "S", "Pe": ")", "Pf": ")", "Zs": " ", "Zl": " ", "Zp": " ", "Cc": " "}

# Tokens are found in the kinds of a text's characters, one for each (``_kind``): L letter, D digit, M combining mark,
# C character of a script without spaces, E pictograph, F half of a flag, T tone or tag of a pictograph, J their joiner,
# $ sign of currency, S other sign, ) whatever a minus may follow but not a sign, P other punctuation.
_NUMBER = r"""(?: (?<!D,) D{1,3} (?:,D{3})+ (?!,?D) (?:\.D+)?        # 1,000.5
                | (?<!D,) D{1,3} (?:\.D{3})+ ,D+ (?![.,]?D)          # 1.000,5
                | (?<!D,) D+,D+ (?![.,]?D)                           # 3,5
                | D+ (?:[.:/]D+)* )"""
_TOKENS = re.compile(
    rf"""(?: (?<![LDM)]) (?P<sign>[-+]) (?P<currency>\$?) )? (?P<number> (?:(?<![LDM).])\.)? {_NUMBER} [LDM]* )
       | (?P<word> L[LDM]* (?:(?<=D) [.:/] D[LDM]*)* | CM* )
       | (?P<pictograph> FF | [EF][MT]* (?:J[EF][MT]*)* )
       | (?P<symbol> [$S+] )""",
    re.VERBOSE,
)
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?![\d,])")
_POINT_FIRST = re.compile(r"^(-?)\.(?=\d)")
_MARK_BETWEEN = re.compile(r"(?<=\d)[.,:/](?=\d)")


class WordToken(NamedTuple):
    """A word of a text.

    Attributes:
        text: as spelled there, in compatibility form (NFKC).
        sign: whether it is a symbol.
    """

    text: str
    sign: bool = False


def split_words(text: str) -> list[str]:
    """Return the words of a text in comparable form: ``Straße`` and ``STRASSE``, ``.5`` and ``0.5`` are equal.

    Args:
        text: any text.
    """
    return [normalised_word(word.text) for word in tokenize(text)]


def rouge_words(text: str) -> list[str]:
    """Return the words as the reference implementation of ROUGE counts them: numbers in parts, and without signs.

    On English these are its tokens (runs of ``[a-z0-9]``), except that a negative number keeps its sign.

    Args:
        text: any text.
    """
    found = tokenize(text)
    counted = [word.text for word in found if not word.sign] or [word.text for word in found]
    return [normalised_word(part) for word in counted for part in _MARK_BETWEEN.split(_POINT_FIRST.sub(r"\1", word))]


def normalised_word(word: str) -> str:
    """Return a word in comparable form: case-folded, no thousands marks, a zero before a leading decimal point.

    Args:
        word: as spelled in a text.
    """
    text = unicodedata.normalize("NFKC", word.casefold())
    if whole := _THOUSANDS.match(text):
        text = whole[0].replace(",", "") + text[whole.end() :]
    return _POINT_FIRST.sub(r"\g<1>0.", text)


def tokenize(text: str) -> list[WordToken]:
    """Return the words of a text as they are spelled there.

    Args:
        text: any text.
    """
    characters, kinds = _read(text)
    found: list[WordToken] = []
    for match in _TOKENS.finditer(kinds):
        if match["currency"]:
            found.append(WordToken(characters[slice(*match.span("currency"))], sign=True))
        kind = match.lastgroup or ""
        minus = "-" if match["sign"] == "-" else ""
        found.append(WordToken(minus + characters[slice(*match.span(kind))], sign=kind == "symbol"))
    return found if any(not word.sign for word in found) else [WordToken(run) for run in characters.split()]


def with_spaces(text: str) -> str:
    """Return a text in compatibility form, with spaces around words of scripts that are written without spaces.

    Args:
        text: any text.
    """
    characters, kinds = _read(text)
    return "".join(f" {each} " if kind == "C" else each for each, kind in zip(characters, kinds, strict=True))


def _read(text: str) -> tuple[str, str]:
    """The characters that count, in compatibility form, and the kind of each."""
    characters, kinds = "", ""
    for character in unicodedata.normalize("NFKC", _separate_digit_forms(text)):
        each, kind = _kind(character)
        if kind and not (kind == "J" and kinds[-1:] not in ("E", "T")):
            characters, kinds = characters + each, kinds + kind
    return characters, kinds


def _separate_digit_forms(text: str) -> str:
    """Put spaces between digits and raised or other digits beside them, which NFKC would make one number."""
    text = _PRESENTATION_MARKS.sub("", text)
    kinds = [_digit_form(character) for character in text]
    return "".join(
        f" {character}" if {before, kind} == {"digit", "other digit"} else character if kind != "mark" else " "
        for before, kind, character in zip(["", *kinds], kinds, text, strict=False)
    )


@lru_cache(maxsize=4096)
def _digit_form(character: str) -> str:
    category, form = unicodedata.category(character), unicodedata.decomposition(character)
    if category == "No" or (category == "Sm" and form.startswith(("<super>", "<sub>"))):
        return "other digit"
    if category == "So" and form.startswith("<super>"):  # of a trade mark
        return "mark"
    return "digit" if category == "Nd" else ""


@lru_cache(maxsize=4096)
def _kind(character: str) -> tuple[str, str]:
    """A character as it is compared but for case, and its kind; no kind: it does not count."""
    character = _EQUIVALENTS.get(character, character)
    category = unicodedata.category(character)
    if character in _KINDS:
        return character, _KINDS[character]
    if category == "Nd":
        character = str(unicodedata.decimal(character))
    if category in _OF_CATEGORY:
        return character, _OF_CATEGORY[category]
    if category == "Cf":
        return character, "T" if 0xE0020 <= ord(character) <= 0xE007F else ""
    if category[0] in "LN":
        return character, "C" if unicodedata.name(character, "").startswith(_UNSPACED_SCRIPTS) else "L"
    if category[0] == "M":
        return character, "M"
    return character, _kind_of_symbol(character, category)


def _kind_of_symbol(character: str, category: str) -> str:
    if 0x1F1E6 <= ord(character) <= 0x1F1FF:
        return "F"
    if 0x1F3FB <= ord(character) <= 0x1F3FF:
        return "T"
    if category in ("Cn", "Co", "Cs"):  # newer than this Python's tables, or somebody's own
        return "E"
    if category == "So":
        return "E" if ord(character) >= _FIRST_PICTOGRAPH else "S"
    return "P"
