"""The Flower ``ServerApp``: the same on every engine; the run folder is on the server's disk."""

from __future__ import annotations

import tomllib
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmosaic.config import RunSettings, validate
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.server import Server

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run or resume the run whose folder ``run_config["out"]`` names, and write its results."""
    settings = validate(RunSettings, tomllib.loads(str(context.run_config["settings"])), source="the run's settings")
    serve(grid, settings, RunFolder(Path(str(context.run_config["out"]))))


def serve(grid: Grid, settings: RunSettings, folder: RunFolder, assets: AssetsOf = Assets) -> None:
    """Run all rounds that a folder does not have yet, and write the results.

    Args:
        grid: the engine.
        settings: of the run.
        folder: of the run.
        assets: opens what the server reads.
    """
    server = Server(grid, settings, folder, assets)
    progress = server.run()
    folder.write_rounds(progress.rows())
    folder.write_results(progress.results(settings, folder.scores(), guarantee=server.context.method.guarantee))
    folder.event("finished", **progress.headline(progress.history[-1]))
