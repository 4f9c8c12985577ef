"""``fedmosaic serve``: a client's models behind an OpenAI-compatible endpoint, with a page to try them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmosaic.cli.console import PlainConsole


def serve(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    client: Annotated[int, typer.Option(help="Id of the client whose models answer.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: any free port.")] = 8766,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; anything but this machine's own takes a token."),
    ] = "127.0.0.1",
    token: Annotated[
        str,
        typer.Option(
            envvar="FEDMOSAIC_TOKEN",
            help=r"What requests must bring, as bearer or ?token=.  \[default: none on this machine, else a new one]",
        ),
    ] = "",
    device: Annotated[
        str | None,
        typer.Option(help=r"auto, cpu, cuda, cuda:1 or mps.  \[default: the run's; auto where that is not there]"),
    ] = None,
    before: Annotated[bool, typer.Option("--before", help="Only as the client was before the first round.")] = False,
    after_exchange: Annotated[
        bool, typer.Option("--after-exchange", help="Only as the last exchange has left the client.")
    ] = False,
    examples: Annotated[bool, typer.Option(help="Offer a few of the client's own test questions on the page.")] = True,
) -> None:
    """Serve a client's models, before and after the run, as an OpenAI-compatible endpoint; Ctrl-C ends it."""
    from fedmosaic.api.finished import Run
    from fedmosaic.serving.serve import open_server

    console = PlainConsole()
    only = [name for name, chosen in (("start", before), ("exchanged", after_exchange)) if chosen]
    finished = Run(run, device=device)
    with open_server(finished, client, only=only, examples=examples, host=host, port=port, token=token) as server:
        console.say(f"serving client {client} of {run}: {server.url}")
        console.say(f"endpoint {server.address}v1, models {', '.join(server.models.by_name)}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.say("stopped serving")
