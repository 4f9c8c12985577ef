"""All clients take turns in this process, or train side by side in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from flwr.app import UserConfigValue

from fedmosaic.config import RunSettings
from fedmosaic.federation import client_app, server_app
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.dealing import devices_of_clients
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.node_settings import NodeSettings
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.models.device import listed, taken
from fedmosaic.training.cohort import Cohort

_AUTO = 16
"""Clients at once where the settings leave it open."""

_PADDING = 0.15
"""On a CPU, how much of a pass may be padding."""

_SCORES = False
"""On a CPU, whether clients are scored side by side: it takes 1.4 times as long as adapters folded into the weights."""


class InProcess:
    """One client at a time, or a cohort, through Flower's apps but without its processes.

    Attributes:
        takes_objects: whether clients and server read what they are handed in this process.
        cohorts: whether clients can train side by side.
    """

    name = "in-process"
    takes_objects = True
    cohorts = True

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
        grid = InProcessGrid(
            client_app.make_app(assets),
            node_configs=local_nodes(settings, folder),
            run_config=local_run_config(settings, folder),
            catch=settings.participation.min_clients > 0,  # what a client raises makes it missing, or ends the run
            cohorts=cohorts_of(settings),
        )
        with folder.locked():
            server_app.serve(grid, settings, folder, callbacks, assets)


def cohorts_of(settings: RunSettings) -> dict[str, Cohort]:
    """Return what lets clients work side by side, by the device that their nodes name; empty if nothing does.

    Args:
        settings: of the run.
    """
    if settings.cohort == "off" or (settings.cohort == "auto" and settings.model.offload):
        return {}
    most = settings.cohort if isinstance(settings.cohort, int) else _AUTO
    names = listed(settings.device)
    return {name if len(names) > 1 else "": _cohort(most, name) for name in names} if most > 1 else {}


def _cohort(most: int, name: str) -> Cohort:
    device = torch.device(taken(name))
    if device.type != "cpu":
        return Cohort(most, str(device))  # what waits for launches does not wait for padding
    return Cohort(most, str(device), padding=_PADDING, reads=_SCORES)


def local_nodes(settings: RunSettings, folder: RunFolder) -> list[dict[str, UserConfigValue]]:
    """Return the configurations of nodes on this machine, which keep their state in the run's folder.

    Args:
        settings: of the run.
        folder: of the run.
    """
    state = str(folder.client_folder.parent)
    several = len(listed(settings.device)) > 1
    return [
        dict(
            NodeSettings.of(
                {"partition-id": position, "state": state, "trust-paths": True, "device": device if several else ""}
            ).config()
        )
        for position, device in enumerate(devices_of_clients(settings))
    ]


def local_run_config(settings: RunSettings, folder: RunFolder) -> dict[str, UserConfigValue]:
    """Return what clients on this machine are told of a run.

    Args:
        settings: of the run.
        folder: of the run.
    """
    return {"settings": settings.to_toml(), "run": folder.client_folder.name}
