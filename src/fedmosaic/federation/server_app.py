"""The Flower ``ServerApp``: the same on every engine; the run folder is on the server's disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from fedmosaic.config import RunSettings, home
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.callbacks import Callback, Callbacks, Measured, RunEnd
from fedmosaic.federation.continuation import continued
from fedmosaic.federation.event_log import EventLog
from fedmosaic.federation.grid import announce_training
from fedmosaic.federation.rostered import rostered
from fedmosaic.federation.run_config import DEFAULTS, run_key, settings_of
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.served import Teller, tell_files
from fedmosaic.federation.server import Server

RUNS = "FEDMOSAIC_RUNS"
"""Environment variable on the server's machine: the folder of the runs that it serves, a folder in it for each."""

_SECONDS_FOR_THE_LAST_ONE = 120.0
"""A process that the SuperLink has given up hears of it with its next sign of life, half a minute later."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run or resume a run that was submitted to a SuperLink, and tell what comes out in the run's log.

    Args:
        grid: connects the server with the nodes.
        context: of the run, see :mod:`fedmosaic.federation.run_config`.

    Raises:
        RunError: the clients are not there in time, or one failed or answered wrongly.
    """
    settings = settings_of(context)
    folder = _served(settings, run_key(context))
    with folder.locked(wait=_SECONDS_FOR_THE_LAST_ONE):
        if folder.results() is None:
            wait = float(context.run_config.get("wait", DEFAULTS["wait"]))
            known = cast("Grid", _Announcing(rostered(grid, settings)))
            serve(known, folder.settings, folder, [Teller()], wait=wait)
        tell_files(folder)


def _served(settings: RunSettings, key: str) -> RunFolder:
    """Return the run's folder on this machine, as the settings ask for it now."""
    root = os.environ.get(RUNS)
    path = (Path(root) if root else home() / "served") / key
    if not (path / "settings.toml").is_file():
        return RunFolder.create(path, settings)
    folder = RunFolder.holding_run(path)
    asked = continued(folder.settings, settings)
    if asked.digest != folder.settings.digest:
        folder.change(asked)
    return folder


class _Announcing:
    """A grid that tells listeners here who has trained on a node; all else is the grid's own."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there."""
        for reply in self._grid.pull_messages(message_ids):
            announce_training(reply)
            yield reply


def serve(
    grid: Grid,
    settings: RunSettings,
    folder: RunFolder,
    callbacks: Sequence[Callback] = (),
    assets: AssetsOf = Assets,
    *,
    wait: float = 0.0,
) -> None:
    """Run all rounds that a folder does not have yet, and write the results.

    Args:
        grid: the engine.
        settings: of the run.
        folder: of the run.
        callbacks: hear what happens, after the event log.
        assets: opens what the server reads.
        wait: seconds that the server waits at its start for clients that are not there.
    """
    torch.set_num_threads(settings.threads)  # as the clients: another number gives other last bits
    listeners = Callbacks([EventLog(folder.event_log), *callbacks])
    server = Server(grid, settings, folder, listeners, assets, wait=wait)
    end = RunEnd(None)
    with listeners.hearing_clients():
        try:
            history = server.run()
            folder.write_rounds(history.rows())
            results = history.results(settings, folder.scores(), guarantee=server.context.method.guarantee)
            folder.write_results(results)
            end = RunEnd(results, Measured.from_scores(history.history[-1], history.tasks))
        finally:
            listeners.on_run_end(end)
