"""The server's grid where the operator keeps a roster: a node is the client that its key belongs to, whatever it says.

Flower lets a node connect if its key is registered, but which client it is, the node itself says. With a roster, nodes
that are not on it are not asked, and a reply in another client's name is an error instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from fedmosaic import events
from fedmosaic.config import RunSettings
from fedmosaic.deployment.roster import Entry, Roster
from fedmosaic.errors import SettingsError, WireError
from fedmosaic.federation import flower, wire

ROSTER = "FEDMOSAIC_ROSTER"
"""Environment variable on the server's machine: the roster's file."""


def rostered(grid: Any, settings: RunSettings) -> Any:
    """Return the grid with the nodes of the operator's roster alone; the grid itself where there is no roster.

    Args:
        grid: of a deployment.
        settings: of the run.

    Raises:
        SettingsError: the roster cannot be read, or has no node for a client of the scenario.
    """
    path = os.environ.get(ROSTER)
    if not path:
        return grid
    roster = Roster.load(Path(path))
    there = {entry.position for entry in roster.clients}
    if missing := [client.id for place, client in enumerate(settings.scenario.clients) if place not in there]:
        raise SettingsError(f"the roster {path} has no node for the scenario's client {missing[0]}; add it")
    return RosteredGrid(grid, roster, [client.id for client in settings.scenario.clients])


class RosteredGrid:
    """A grid whose nodes are those of a roster; all else is the grid's own.

    Args:
        grid: of a deployment; its ``get_nodes`` tells each node's name and key.
        roster: who is expected.
        clients: the clients' ids, in the scenario's order.
    """

    def __init__(self, grid: Grid, roster: Roster, clients: list[int]) -> None:
        self._grid: Any = grid
        self._roster = roster
        self._clients = clients
        self._known: dict[int, Entry | None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def get_node_ids(self) -> Iterable[int]:
        """Return the connected nodes that are on the roster and whose client is in the scenario."""
        nodes = list(self._grid.get_node_ids())
        if not self._known.keys() >= set(nodes):
            self._look()
        return [node for node in nodes if self._entry(node) is not None]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there; one in another client's name is an error.

        Args:
            message_ids: of what was sent.
        """
        return [self._checked(reply) for reply in self._grid.pull_messages(message_ids)]

    def _look(self) -> None:
        """Find out who is connected, and say once who is not expected."""
        for node in self._grid.get_nodes():
            if node.node_id not in self._known:
                self._known[node.node_id] = entry = self._roster.entry_of(node.public_key)
                if entry is None:
                    name = f" ({node.name})" if node.name else ""
                    events.emit("note", text=f"node {node.node_id}{name} is not on the roster and is not asked")

    def _entry(self, node: int) -> Entry | None:
        entry = self._known.get(node)
        return entry if entry is not None and entry.position < len(self._clients) else None

    def _checked(self, reply: Message) -> Message:
        if reply.has_error() or (entry := self._entry(reply.metadata.src_node_id)) is None:
            return reply
        try:
            said = wire.meta(reply.content, {"client": int}, sender=f"the node of {entry.name}")["client"]
        except WireError as error:
            return flower.failed(reply, str(error))
        own = self._clients[entry.position]
        if said == own:
            return reply
        return flower.failed(
            reply,
            f"the node of {entry.name} answers as client {said}, but its key is that of client {own}: correct "
            "partition-id in its node.toml, or the roster",
        )
