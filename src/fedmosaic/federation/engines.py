"""Engines: what runs under the one ServerApp and the one ClientApp."""

from __future__ import annotations

from typing import Any

from flwr.app import UserConfigValue

from fedmosaic import events
from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.federation import client_app, server_app
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.run_folder import RunFolder


def run(settings: RunSettings, folder: RunFolder, *, assets: AssetsOf = Assets) -> None:
    """Run all rounds that the folder does not have yet; its results and checkpoints are the outcome.

    Args:
        settings: of the run.
        folder: of the run.
        assets: opens what the clients and the server read; each of the two opens its own.

    Raises:
        SettingsError: the engine is not available.
        RunError: a client failed or answered wrongly.
    """
    if settings.engine != "in-process":
        raise SettingsError(
            f"engine {settings.engine!r} is not available from `fedmosaic run` in this version; use 'in-process'"
        )
    config: dict[str, UserConfigValue] = {"settings": settings.to_toml(), "client-folder": str(folder.client_folder)}
    nodes = [{"partition-id": position} for position in range(len(settings.scenario.clients))]
    grid = InProcessGrid(client_app.make_app(assets), node_configs=nodes, run_config=config)

    def record(kind: str, fields: dict[str, Any]) -> None:
        if kind == "trained":
            folder.event(kind, **fields)

    with folder.locked(), events.listening(record):
        server_app.serve(grid, settings, folder, assets)
