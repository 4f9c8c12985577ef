"""The command line: one module per verb."""

from __future__ import annotations

import signal
import sys

import typer
from rich.console import Console

from fedmosaic.cli.adapt import adapt_run
from fedmosaic.cli.align import align
from fedmosaic.cli.ask import ask
from fedmosaic.cli.compare import compare
from fedmosaic.cli.evaluate import evaluate
from fedmosaic.cli.export import export
from fedmosaic.cli.report import report
from fedmosaic.cli.run import run
from fedmosaic.cli.tasks import tasks
from fedmosaic.errors import DataError, FedMosaicError, ModelError, SettingsError

_FAILED, _BAD_USAGE, _INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="fedmosaic",
    help="Personalised federated learning of heterogeneous multimodal models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(run)
app.command()(compare)
app.command()(report)
app.command()(evaluate)
app.command("adapt")(adapt_run)
app.command()(align)
app.command()(export)
app.command()(ask)
app.add_typer(tasks, name="tasks")


def main() -> None:
    """Run the command line; exit status 0 done, 1 failed run, 2 bad usage or settings, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=True)
    try:
        app()
    except (SettingsError, DataError, ModelError) as error:
        console.print(f"[bold red]error:[/] {_escaped(error)}", highlight=False, soft_wrap=True)
        sys.exit(_BAD_USAGE)
    except FedMosaicError as error:
        console.print(f"[bold red]failed:[/] {_escaped(error)}", highlight=False, soft_wrap=True)
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _escaped(error: Exception) -> str:
    return str(error).replace("[", r"\[")
