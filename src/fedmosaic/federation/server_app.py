"""The Flower ``ServerApp``: the same on every engine; the run folder is on the server's disk."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmosaic.config import RunSettings, validate
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.callbacks import Callback, Callbacks, Measured, RunEnd
from fedmosaic.federation.event_log import EventLog
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.server import Server

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run or resume the run whose folder ``run_config["out"]`` names, and write its results.

    Args:
        grid: connects the server with the nodes.
        context: its ``run_config`` has ``out`` and ``settings``.
    """
    settings = validate(RunSettings, tomllib.loads(str(context.run_config["settings"])), source="the run's settings")
    serve(grid, settings, RunFolder(Path(str(context.run_config["out"]))))


def serve(
    grid: Grid,
    settings: RunSettings,
    folder: RunFolder,
    callbacks: Sequence[Callback] = (),
    assets: AssetsOf = Assets,
) -> None:
    """Run all rounds that a folder does not have yet, and write the results.

    Args:
        grid: the engine.
        settings: of the run.
        folder: of the run.
        callbacks: hear what happens, after the event log.
        assets: opens what the server reads.
    """
    listeners = Callbacks([EventLog(folder.event_log), *callbacks])
    server = Server(grid, settings, folder, listeners, assets)
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
