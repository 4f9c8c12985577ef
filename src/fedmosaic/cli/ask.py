"""``fedmosaic ask``: put a question to a client's model, as it was before and is after the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedmosaic.cli.console import PlainConsole


def ask(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    question: Annotated[str, typer.Argument(help="May say where each image stands with an <image> mark.")],
    client: Annotated[int, typer.Option(help="Id of the client whose model answers.")],
    image: Annotated[list[Path] | None, typer.Option(help="Image file; several in the order of their marks.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An answer to choose from; give several, and the likeliest is printed.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 32,
    device: Annotated[
        str | None,
        typer.Option(help=r"auto, cpu, cuda, cuda:1 or mps.  \[default: the run's; auto where that is not there]"),
    ] = None,
    before: Annotated[bool, typer.Option("--before", help="As the client was before the first round.")] = False,
    after_exchange: Annotated[
        bool,
        typer.Option("--after-exchange", help="As the last exchange has left the client, not as local training has."),
    ] = False,
    side_by_side: Annotated[
        bool,
        typer.Option(
            "--side-by-side", help="All answers: before, after training alone if that is beside the run, and after it."
        ),
    ] = False,
) -> None:
    """Print the answer of a client's model to a question, about images or none."""
    from fedmosaic.api.answering import with_marks
    from fedmosaic.api.finished import Run
    from fedmosaic.api.moments import moments
    from fedmosaic.data.images import read_image
    from fedmosaic.errors import SettingsError

    paths = image or []
    with_marks(question, len(paths))
    for path in paths:
        read_image(path)
    if side_by_side and (before or after_exchange):
        raise SettingsError("--side-by-side prints all answers; leave out --before and --after-exchange")
    finished = Run(run, device=device)
    if not side_by_side:
        model = finished.client(client, before=before, after_exchange=after_exchange)
        PlainConsole().say(model.ask(paths, question, option, max_tokens=max_tokens))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for moment in moments(finished, client):
        table.add_row(moment.title, moment.model.ask(paths, question, option, max_tokens=max_tokens))
    PlainConsole().print(table)
