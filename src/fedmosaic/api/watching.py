"""Watching a run from Python: a bar that shows how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.config import RunSettings
from fedmosaic.events import Step, Trained
from fedmosaic.federation import participation
from fedmosaic.federation.callbacks import Callback, Warned
from fedmosaic.report.text import loss


class ProgressBar(Callback):
    """A bar over the turns of all clients in all rounds, shown while its block runs.

    Args:
        settings: of the run.
        console: where to draw.
    """

    def __init__(self, settings: RunSettings, console: Console) -> None:
        schedule = participation.schedule(settings)
        self._turns = [(round_, client) for round_, clients in schedule.items() for client in clients]
        self._rounds = settings.rounds
        self.bars = Progress(
            TextColumn("{task.description:<10}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self._bar = self.bars.add_task(settings.method, total=len(self._turns), state="starting")

    def on_step(self, record: Step) -> None:
        """Show the loss.

        Args:
            record: of the step.
        """
        state = f"round {record.round}/{self._rounds}  client {record.client}  loss {loss(record.loss)}"
        self.bars.update(self._bar, state=state)

    def on_trained(self, record: Trained) -> None:
        """Move on.

        Args:
            record: of the client's round.
        """
        self.bars.update(self._bar, completed=self._turns.index((record.round, record.client)) + 1)

    def on_warning(self, record: Warned) -> None:
        """Show it above the bar.

        Args:
            record: what to say.
        """
        self.bars.console.print(f"warning: {record.text}", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def shown(settings: RunSettings, *, progress: bool) -> Iterator[list[Callback]]:
    """Show a run while the block runs.

    Args:
        settings: of the run.
        progress: whether to.

    Yields:
        The callbacks that do: a bar, or none.
    """
    if not progress:
        yield []
        return
    with ExitStack() as stack:
        bar = ProgressBar(settings, Console())
        stack.enter_context(bar.bars)
        yield [bar]


def teller(*, progress: bool) -> Teller:
    """Return what tells of the work before a run: on the console, or nobody.

    Args:
        progress: whether to.
    """
    if not progress:
        return SILENT
    console = Console(markup=False, emoji=False, highlight=False)

    @contextmanager
    def working(title: str) -> Iterator[Any]:
        console.print(title, soft_wrap=True)
        yield lambda text: console.print(text, soft_wrap=True)

    return Teller(working, lambda text: console.print(text, soft_wrap=True))
