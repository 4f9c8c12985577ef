"""What the server is told when a client fails: which kind of error, and nothing of its files and data.

This is the one place where an error becomes a message. It loads no torch: the process that hands messages on needs it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping

from flwr.app import Context, Error, Message

from fedmosaic.errors import DataError, ModelError, ResidentError, RunError, SettingsError, WireError
from fedmosaic.federation import flower

Answering = Callable[[Message, Context], Message]
Mod = Callable[[Message, Context, Answering], Message]
"""What stands between Flower and a client's app."""

_log = logging.getLogger(__name__)
_SAFE: Mapping[type[Exception], str] = {
    SettingsError: "the run's settings do not fit it",
    DataError: "its data cannot be used",
    ModelError: "its base model cannot be used",
    RunError: "its state cannot be used",
    ResidentError: "its resident process does not answer",
}


def guarded(message: Message, context: Context, call: Answering) -> Message:
    """Answer with an error that is safe to send where a client's app raises one; the whole error goes to the local log.

    (A Flower mod: ``ClientApp(mods=[guarded])``. Flower itself would send the error's text, with its paths.)

    Args:
        message: from the server.
        context: of the client.
        call: answers it.

    Returns:
        What ``call`` answers, or the error reply.
    """
    try:
        return call(message, context)
    except Exception as error:
        _log.exception("the client failed in %r", message.metadata.message_type)
        return Message(Error(flower.CLIENT_RAISED, safe_text(error)), reply_to=message)


def safe_text(error: Exception) -> str:
    """Return what may be told of an error to other organisations.

    Args:
        error: that a client has raised.
    """
    if isinstance(error, WireError):
        return f"WireError: {error}"  # it speaks of what the server sent
    if isinstance(error, OSError) and error.errno is not None:
        about = os.strerror(error.errno)
    else:
        about = next((text for kind, text in _SAFE.items() if isinstance(error, kind)), "")
    return ": ".join(filter(None, [type(error).__name__, about])) + " (the client's own log says more)"
