"""The live display of a run: round, client, loss, time left; and, below, how far the reference run is."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fedmosaic.api.background import BackgroundRun
from fedmosaic.cli.progress import logging
from fedmosaic.config import RunSettings
from fedmosaic.events import Step, Trained
from fedmosaic.federation import RunFolder, participation
from fedmosaic.federation.callbacks import Callback, Warned
from fedmosaic.federation.results import Missing
from fedmosaic.report.text import loss

_POLL_SECONDS = 0.5


class RunDisplay(Callback):
    """Shows what the run tells it while its block runs.

    Args:
        settings: of the run in this process.
        console: where to draw; one that is not a terminal gets a line per round instead, and every few seconds.
        beside: the reference run in another process.
    """

    def __init__(self, settings: RunSettings, console: Console, *, beside: BackgroundRun | None) -> None:
        self._settings = settings
        self._console = console
        self._beside = beside
        schedule = participation.schedule(settings)
        turns = [(round_, client) for round_, clients in schedule.items() for client in clients]
        self._positions = {turn: position for position, turn in enumerate(turns, start=1)}
        self._last_of_round = {round_: clients[-1] for round_, clients in schedule.items()}
        self._total = len(turns)
        self._bars = Progress(
            TextColumn("{task.description:<10}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=console.quiet or not console.is_terminal,
        )
        self._main = self._bars.add_task(settings.method, total=self._total, state="starting")
        self._other = self._bars.add_task("reference", total=self._total, state="", visible=beside is not None)
        self._shown = ExitStack()
        self._tell: Callable[[str], None] = lambda _: None

    def __enter__(self) -> RunDisplay:
        if not self._console.is_terminal:
            self._tell = self._shown.enter_context(logging(self._console, f"{self._settings.method}: starting"))
        self._shown.enter_context(self._bars)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()

    def wait_for(self, beside: BackgroundRun | None) -> None:
        """Show the other run until it ends.

        Raises:
            RunError: it failed.
        """
        if beside is None:
            return
        self._bars.update(self._main, completed=self._total, state="done")
        while beside.running:
            self._tell(f"{self._settings.method}: done; {beside.path.name}: {self._show_beside()}")
            time.sleep(_POLL_SECONDS)
        beside.join()

    def on_step(self, record: Step) -> None:
        """Show where the run is."""
        done = self._position(record) + record.step / record.steps - 1
        state = f"round {record.round}/{self._settings.rounds}  client {record.client}  loss {loss(record.loss)}"
        self._bars.update(self._main, completed=done, state=state)
        self._tell(f"{self._settings.method}: {state}")

    def on_trained(self, record: Trained) -> None:
        """Show that a client is done, and how far the other run is."""
        self._bars.update(self._main, completed=self._position(record))
        self._show_beside()
        if record.client == self._last_of_round.get(record.round):
            done = f"round {record.round}/{self._settings.rounds} done"
            state = f"{done}, last scores" if record.round == self._settings.rounds else done
            self._bars.update(self._main, state=state)
            self._tell(f"{self._settings.method}: {state}")
            if not self._console.is_terminal:
                self._console.print(done, highlight=False)

    def on_missing(self, record: Missing) -> None:
        """Show it above the bars."""
        text = f"client {record.client} is missing: {record.exchange}, round {record.round}, {record.why}"
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def on_warning(self, record: Warned) -> None:
        """Show it above the bars."""
        self._console.print(f"warning: {record.text}", highlight=False, markup=False, soft_wrap=True)

    def _position(self, record: Step | Trained) -> int:
        return self._positions.get((record.round, record.client), 0)

    def _show_beside(self) -> str:
        """Show, and return in words, how far the other run is."""
        if self._beside is None:
            return ""
        trained = [line.what for line in RunFolder(self._beside.path).events() if isinstance(line.what, Trained)]
        state = "starting"
        if trained:
            last = trained[-1]
            state = f"round {last.round}/{self._settings.rounds}  loss {loss(last.loss)}"
            self._bars.update(self._other, completed=self._position(last), state=state)
        return state
