"""The command line: one module per verb."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from fedmosaic.cli.adapt import adapt_run
from fedmosaic.cli.align import align
from fedmosaic.cli.ask import ask
from fedmosaic.cli.compare import compare
from fedmosaic.cli.console import PlainConsole, tolerate_any_text, visible
from fedmosaic.cli.data import data
from fedmosaic.cli.demo import demo
from fedmosaic.cli.deploy import deploy
from fedmosaic.cli.evaluate import evaluate
from fedmosaic.cli.export import export
from fedmosaic.cli.libraries import silence_bars
from fedmosaic.cli.report import report
from fedmosaic.cli.run import run
from fedmosaic.cli.serve import serve
from fedmosaic.cli.settings import settings
from fedmosaic.cli.tasks import tasks
from fedmosaic.cli.watch import watch
from fedmosaic.config.home import advice
from fedmosaic.errors import DataError, FedMosaicError, ModelError, SettingsError
from fedmosaic.version import __version__

_FAILED, _BAD_USAGE, _INTERRUPTED = 1, 2, 130


def _version(asked: bool) -> None:
    if asked:
        PlainConsole().say(f"fedmosaic {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="fedmosaic",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",  # of help texts; what users wrote is not read so
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Personalised federated learning of heterogeneous multimodal models."""


app.command()(demo)
app.command()(run)
app.command()(compare)
app.command()(report)
app.command()(watch)
app.command()(evaluate)
app.command("adapt")(adapt_run)
app.command()(align)
app.command()(export)
app.command()(ask)
app.command()(serve)
app.add_typer(tasks, name="tasks")
app.add_typer(data, name="data")
app.add_typer(settings, name="settings")
app.add_typer(deploy, name="deploy")


def main() -> None:
    """Run the command line; exit status 0 done, 1 failed run, 2 bad usage or settings, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tolerate_any_text()
    silence_bars()
    try:
        app()
    except (SettingsError, DataError, ModelError) as error:
        _stop("error:", str(error), _BAD_USAGE)
    except FedMosaicError as error:
        _stop("failed:", str(error), _FAILED)
    except OSError as error:  # a full disk, a folder that is read-only: the machine's trouble, not the program's
        where = f": {error.filename}{advice(str(error.filename))}" if error.filename else ""
        _stop("failed:", f"{error.strerror or error}{where}", _FAILED)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _stop(kind: str, message: str, status: int) -> NoReturn:
    """Say on one line why it ends here."""
    line = visible(" ".join(message.split("\n")))
    PlainConsole(stderr=True).print(Text.assemble((kind, "bold red"), " ", line), soft_wrap=True)
    sys.exit(status)
