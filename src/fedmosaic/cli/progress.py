"""What a command is doing while it takes long: a spinner on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from fedmosaic import events
from fedmosaic.api.telling import Teller
from fedmosaic.cli.console import PlainConsole
from fedmosaic.events import Event, Note, Work

SECONDS = 5.0
"""Between two lines in a log."""


@contextmanager
def working(console: Console, title: str, *, seconds: float | None = None) -> Iterator[Callable[[str], None]]:
    """Show what is done in the block, as its code tells by ``events.work`` and ``events.emit("note", text=...)``.

    Args:
        console: where to; a quiet one shows nothing.
        title: of the block, e.g. ``image features``.
        seconds: between two lines where the console is no terminal (default: ``SECONDS``); a block that takes less says
            nothing there.

    Yields:
        A function that takes a better title when another part of the block begins.
    """
    with _spinning(console, title) if console.is_terminal else logging(console, title, seconds=seconds) as show:
        now = {"title": title}

        def entitle(text: str) -> None:
            now["title"] = text
            show(text)

        def listen(event: Event) -> None:
            if isinstance(event, Work):
                show(f"{now['title']}: {event.what} {event.done:,} of {event.total:,}")
            elif isinstance(event, Note):
                console.print(event.text, highlight=False, markup=False, soft_wrap=True)

        with events.listening(listen):
            yield entitle


@contextmanager
def _spinning(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    with console.status(escape(title)) as status:
        yield lambda text: status.update(escape(text))


@contextmanager
def logging(console: Console, title: str, *, seconds: float | None = None) -> Iterator[Callable[[str], None]]:
    """Print the latest state, with the time that the block has taken, every few seconds.

    Args:
        console: where to.
        title: the first state.
        seconds: between two lines; default: ``SECONDS``.

    Yields:
        A function that takes the state.
    """
    start, over, state = time.monotonic(), threading.Event(), [title]

    def tell() -> None:
        while not over.wait(SECONDS if seconds is None else seconds):
            passed = f"({time.monotonic() - start:.0f} s)"
            console.print(f"{state[0]} {passed}", highlight=False, markup=False, soft_wrap=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield lambda text: state.__setitem__(0, text)
    finally:
        over.set()
        teller.join()


def teller(console: PlainConsole) -> Teller:
    """Return what shows on a console what takes long and what the user should know."""
    return Teller(lambda title: working(console, title), console.note)
