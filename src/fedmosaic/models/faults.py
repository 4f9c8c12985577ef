"""One line for whatever a library raises about a checkpoint's files.

transformers, tokenizers, safetensors and jinja2 raise what they please about a file that they cannot use: besides their
own errors KeyError, RuntimeError, AttributeError, RecursionError, and tokenizers a bare Exception. So everything raised
while files are read is about the files, and there is one place that says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fedmosaic.errors import FedMosaicError, ModelError

_LONGEST = 400


@contextmanager
def blaming(what: str, *, advice: str = "") -> Iterator[None]:
    """Raise whatever goes wrong inside the block as a :class:`ModelError` of one line.

    Args:
        what: begins the line: what cannot be used.
        advice: ends it: what was expected, or what to do.

    Raises:
        ModelError: any exception but our own, which say enough, and interruptions.
    """
    try:
        yield
    except FedMosaicError:
        raise
    except Exception as error:
        raise ModelError(f"{what}: {one_line(error)}{f'; {advice}' if advice else ''}") from error


def one_line(error: BaseException) -> str:
    """Return an error's own message without line breaks, with its type where the message alone says little."""
    text = " ".join(str(error).split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ..."
    named = isinstance(error, KeyError | AttributeError | IndexError) or not text
    return f"{type(error).__name__}{f' {text}' if text else ''}" if named else text
