"""Which device each client computes on, where a run names several."""

from __future__ import annotations

from fedmosaic.config import RunSettings
from fedmosaic.models.device import listed


def devices_of_clients(settings: RunSettings) -> list[str]:
    """Return each client's device, in the order of the scenario's clients.

    Clients are dealt out in equal shares, those of one base model next to each other: a base model is on more than one
    device only where a share ends within its clients. It follows from the settings alone, so a run that goes on finds
    its clients where they were.

    Args:
        settings: of the run.
    """
    names, clients = listed(settings.device), settings.scenario.clients
    models = settings.scenario.models
    in_order = sorted(range(len(clients)), key=lambda position: models.index(clients[position].model))
    devices = dict(
        zip(in_order, (names[rank * len(names) // len(clients)] for rank in range(len(clients))), strict=True)
    )
    return [devices[position] for position in range(len(clients))]


def clients_on(settings: RunSettings, device: str) -> set[int]:
    """Return the ids of the clients that compute on one of the run's devices.

    Args:
        settings: of the run.
        device: one of those that they name.
    """
    clients = zip(settings.scenario.clients, devices_of_clients(settings), strict=True)
    return {client.id for client, own in clients if own == device}
