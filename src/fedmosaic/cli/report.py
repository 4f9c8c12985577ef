"""``fedmosaic report``: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmosaic.cli.console import PlainConsole


def report(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    examples: Annotated[
        bool, typer.Option("--examples/--no-examples", help="Show a few test questions of each client, with images.")
    ] = True,
) -> None:
    """Write report.html for a run, finished or not, and print its table."""
    from fedmosaic.report import final_table, write_report

    page = write_report(run, examples=examples)
    console = PlainConsole()
    console.print(final_table(run))
    console.say(f"report:  {page}")
