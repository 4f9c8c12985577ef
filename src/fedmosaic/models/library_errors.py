"""Errors of libraries about a checkpoint's files, as errors of one line.

transformers, tokenizers, safetensors and jinja2 raise many types for a file that they cannot use: besides their own
errors KeyError, RuntimeError, AttributeError, RecursionError, and tokenizers a bare Exception. So every exception that
is raised while files are read is attributed to the files, in this one place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fedmosaic.errors import FedMosaicError, ModelError
from fedmosaic.models.device import lacks_memory

_LONGEST = 400


@contextmanager
def model_errors(what: str, *, advice: str = "") -> Iterator[None]:
    """Return a context that turns any exception inside it into a :class:`ModelError` of one line.

    Args:
        what: begins the message: what cannot be used.
        advice: ends it: what was expected, or what to do.

    Raises:
        ModelError: for any exception but fedmosaic's own, whose messages suffice, a lack of memory, which is not the
            files' fault, and interruptions.
    """
    try:
        yield
    except FedMosaicError:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        raise ModelError(f"{what}: {one_line(error)}{f'; {advice}' if advice else ''}") from error


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks, with its type where the message alone is unclear.

    Args:
        error: any exception.
    """
    text = " ".join(str(error).split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ..."
    named = isinstance(error, KeyError | AttributeError | IndexError) or not text
    return f"{type(error).__name__}{f' {text}' if text else ''}" if named else text
