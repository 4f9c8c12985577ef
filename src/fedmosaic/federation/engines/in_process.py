"""All clients take turns in this process."""

from __future__ import annotations

from typing import Any

from flwr.app import Context, RecordDict, UserConfigValue

from fedmosaic import events
from fedmosaic.config import RunSettings
from fedmosaic.federation import client_app, server_app
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.run_folder import RunFolder


class InProcess:
    """One client at a time, through Flower's apps but without its processes."""

    name = "in-process"

    def run(self, settings: RunSettings, folder: RunFolder) -> None:
        """Run all rounds that the folder does not have yet.

        Args:
            settings: of the run.
            folder: the run's.

        Raises:
            RunError: a client failed or answered wrongly.
        """
        config: dict[str, UserConfigValue] = {
            "settings": settings.to_toml(),
            "out": str(folder.path),
            "client-folder": str(folder.client_folder),
        }
        client_app.forget()
        nodes = [{"partition-id": position} for position in range(len(settings.scenario.clients))]
        grid = InProcessGrid(client_app.app, node_configs=nodes, run_config=config)

        def record(kind: str, fields: dict[str, Any]) -> None:
            if kind == "trained":
                folder.event(kind, **fields)

        with folder.locked(), events.listening(record):
            server_app.app(grid, Context(1, 1, {}, RecordDict(), config))
