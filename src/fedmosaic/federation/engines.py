"""Engines: what runs under the one ServerApp and the one ClientApp."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.app import UserConfigValue

from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.federation import client_app, server_app
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.run_folder import RunFolder


def run(settings: RunSettings, folder: RunFolder, *, callbacks: Sequence[Callback] = ()) -> None:
    """Run all rounds that the folder does not have yet; its results and checkpoints are the outcome.

    Args:
        settings: of the run.
        folder: of the run.
        callbacks: hear what happens while it does.

    Raises:
        SettingsError: the engine is not available.
        RunError: a client failed or answered wrongly.
    """
    if settings.engine != "in-process":
        raise SettingsError(
            f"engine {settings.engine!r} is not available from `fedmosaic run` in this version; use 'in-process'"
        )
    config: dict[str, UserConfigValue] = {"settings": settings.to_toml(), "client-folder": str(folder.client_folder)}
    client_app.forget()
    nodes = [{"partition-id": position} for position in range(len(settings.scenario.clients))]
    grid = InProcessGrid(client_app.app, node_configs=nodes, run_config=config)
    with folder.locked():
        server_app.serve(grid, settings, folder, callbacks)
