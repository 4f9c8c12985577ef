"""``fedmosaic ask``: put a question to a client's final model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmosaic.cli.console import PlainConsole


def ask(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    question: Annotated[str, typer.Argument(help="May say where each image stands with an <image> mark.")],
    client: Annotated[int, typer.Option(help="Id of the client whose model answers.")],
    image: Annotated[list[Path] | None, typer.Option(help="Image file; several in the order of their marks.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 32,
    device: Annotated[
        str | None,
        typer.Option(help=r"auto, cpu, cuda, cuda:1 or mps.  \[default: the run's; auto where that is not there]"),
    ] = None,
    after_exchange: Annotated[
        bool,
        typer.Option("--after-exchange", help="As the last exchange has left the client, not as local training has."),
    ] = False,
) -> None:
    """Print the answer of a client's final model to a question about images."""
    from fedmosaic.api.answering import with_marks
    from fedmosaic.api.finished import Run
    from fedmosaic.data.images import read_image

    paths = image or []
    with_marks(question, len(paths))
    for path in paths:
        read_image(path)
    PlainConsole().say(
        Run(run, device=device)
        .client(client, after_exchange=after_exchange)
        .ask(paths, question, max_tokens=max_tokens)
    )
