"""The consoles of all verbs: what they print is text, never markup, whoever wrote it."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text


class PlainConsole(Console):
    """A console that reads no markup in a string: a path, a task's name or an answer may hold any brackets.

    Args:
        quiet: print nothing.
        stderr: print to standard error.
    """

    def __init__(self, *, quiet: bool = False, stderr: bool = False) -> None:
        super().__init__(quiet=quiet, stderr=stderr, markup=False, emoji=False, highlight=False)
        self._noted: set[str] = set()

    def render_str(self, text: str, **options: Any) -> Text:
        """Make what is printed of a string, also of one in a table."""
        return super().render_str(visible(text), **options)

    def status(self, status: Any, **options: Any) -> Status:
        """Show a line with a spinner while a block runs; see :meth:`rich.console.Console.status`."""
        return super().status(Text(visible(status)) if isinstance(status, str) else status, **options)

    def say(self, text: str) -> None:
        """Print a text as one line, however long it is."""
        self.print(text, soft_wrap=True)

    def note(self, text: str) -> None:
        """Say what concerns several runs alike, such as a note about their data, the first time only."""
        if text not in self._noted:
            self._noted.add(text)
            self.say(text)


def visible(text: str) -> str:
    """Return a text with control characters, which a terminal would obey, written out; lines and tabs stay."""
    return text.translate(_CONTROLS)


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def tolerate_any_text() -> None:
    """Let standard output take what its encoding has no words for, as standard error does."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
