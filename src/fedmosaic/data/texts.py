"""Validation and normalisation of samples' texts, and abbreviation of users' values in errors."""

from __future__ import annotations

import re
import reprlib
import unicodedata

from fedmosaic.errors import DataError

# Control characters that are no white space, and halves of surrogate pairs. The latter stand for bytes that are no
# UTF-8, too: files are decoded so that a bad byte is told with the record that holds it.
_FORBIDDEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

_LONGEST = 300  # characters of a value in an error

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
_short.maxlist = _short.maxtuple = 12


def quoted(value: object) -> str:
    """Return a value as it stands in errors: quoted, on one line, shortened in the middle.

    Args:
        value: any.
    """
    text = _short.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def is_blank(text: str) -> bool:
    """Return whether a text is empty, or all white space and invisible characters.

    Args:
        text: any.
    """
    return all(unicodedata.category(character)[0] in "ZC" for character in text)


def check_text(text: str, what: str) -> None:
    """Refuse a text that no tokenizer, terminal or page can be given.

    Args:
        text: the text.
        what: names it in the error, e.g. ``the answer``.

    Raises:
        DataError: it holds a control character or half of a surrogate pair.
    """
    if bad := _FORBIDDEN.search(text):
        code = ord(bad.group())
        kind = "is no UTF-8, or half of a surrogate pair" if code >= 0xD800 else "is a control character"
        raise DataError(f"{what} holds U+{code:04X} at character {bad.start()}, which {kind}; remove or replace it")


def normalised(text: str) -> str:
    """Return a text in normal form: NFKC, case-folded, single spaces.

    Args:
        text: any.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
