"""The option ``--column``: what a table of one's own calls question, answer, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from fedmosaic.errors import SettingsError

Columns = Annotated[
    list[str] | None, typer.Option("--column", help="What a column is called: question=frage. May be repeated.")
]


def named(given: Sequence[str] | None) -> dict[str, str]:
    """Return what columns are called, by their usual names.

    Args:
        given: as typed: ``question=frage``.

    Raises:
        SettingsError: one names no column.
    """
    columns = dict(text.partition("=")[::2] for text in given or ())
    if wrong := [name for name, own in columns.items() if not own]:
        raise SettingsError(f"--column {wrong[0]}: expected NAME=COLUMN, e.g. question=frage")
    return columns
