"""All clients take turns in this process."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.app import UserConfigValue

from fedmosaic.config import RunSettings
from fedmosaic.federation import client_app, server_app
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.run_folder import RunFolder


class InProcess:
    """One client at a time, through Flower's apps but without its processes.

    Attributes:
        takes_objects: whether clients and server read what they are handed in this process.
    """

    name = "in-process"
    takes_objects = True

    def run(
        self,
        settings: RunSettings,
        folder: RunFolder,
        *,
        callbacks: Sequence[Callback] = (),
        assets: AssetsOf = Assets,
    ) -> None:
        """Run all rounds that the folder does not have yet.

        Args:
            settings: of the run.
            folder: of the run.
            callbacks: hear what happens while it does.
            assets: opens what the clients and the server read; each of the two opens its own.

        Raises:
            RunError: a client failed or answered wrongly.
        """
        config: dict[str, UserConfigValue] = {
            "settings": settings.to_toml(),
            "client-folder": str(folder.client_folder),
        }
        nodes = [{"partition-id": position} for position in range(len(settings.scenario.clients))]
        tolerant = settings.participation.min_clients > 0
        grid = InProcessGrid(client_app.make_app(assets), node_configs=nodes, run_config=config, catch=tolerant)
        with folder.locked():
            server_app.serve(grid, settings, folder, callbacks, assets)
