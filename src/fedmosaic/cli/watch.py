"""``fedmosaic watch``: a run's page in the browser while the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmosaic.cli.console import PlainConsole


def watch(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: any free port.")] = 8765,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; anything but this machine's own takes the token that is printed."),
    ] = "127.0.0.1",
) -> None:
    """Show a run's page in the browser, up to date while the run goes on; Ctrl-C ends it."""
    from fedmosaic.report.live import LiveRun, LiveServer

    console = PlainConsole()
    with LiveServer(LiveRun(run), host=host, port=port) as server:
        console.say(f"watching {run}: {server.url}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.say("stopped watching; the run is not touched by it")
