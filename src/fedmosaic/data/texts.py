"""What a text of a sample may hold, and how a user's value is shown in an error."""

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


def shown(value: object) -> str:
    """Return a value as errors show it: quoted, on one line, shortened in the middle."""
    text = _short.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: it is empty, or all white space and invisible characters."""
    return all(unicodedata.category(character)[0] in "ZC" for character in text)


def check_text(text: str, what: str) -> None:
    """Refuse a text that no tokenizer, terminal or page can be given.

    Args:
        text: as it was read.
        what: names it in the error, e.g. ``the answer``.

    Raises:
        DataError: it holds a control character or half of a surrogate pair.
    """
    if bad := _FORBIDDEN.search(text):
        code = ord(bad.group())
        kind = "is no UTF-8, or half of a surrogate pair" if code >= 0xD800 else "is a control character"
        raise DataError(f"{what} holds U+{code:04X} at character {bad.start()}, which {kind}; remove or replace it")


def plain(text: str) -> str:
    """Return a text without the differences that do not make it another one: case, white space, spelling of signs."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
