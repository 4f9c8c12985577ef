"""Which node may speak for which client: what a node says of itself is held against what the operator has written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from flwr.serverapp import Grid

from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError

_KEY_TYPES = ("ecdsa-", "ssh-")


class Roster:
    """The nodes that clients are expected at.

    Args:
        nodes: client id -> name of its node, or its node's public key as OpenSSH writes it; empty: nodes are believed.
    """

    def __init__(self, nodes: Mapping[int, str] | None = None) -> None:
        self._nodes = dict(nodes or {})

    @classmethod
    def of(cls, settings: RunSettings) -> Roster:
        """Return the roster that a run's settings name, or one that believes everybody.

        Args:
            settings: of the run.

        Raises:
            SettingsError: the file cannot be used; says why.
        """
        path = settings.participation.roster
        return cls.from_toml(Path(path), [client.id for client in settings.scenario.clients]) if path else cls()

    @classmethod
    def from_toml(cls, path: Path, clients: Iterable[int]) -> Roster:
        """Return the roster in a file: a table ``[nodes]`` with ``0 = "hospital-a"``, or the text of a ``.pub`` file.

        Args:
            path: the file.
            clients: ids of all clients; each must be in it.

        Raises:
            SettingsError: the file cannot be read, or says anything else.
        """
        expected = 'expected [nodes] with a line for each client, e.g. 0 = "name" or 0 = "ecdsa-sha2-nistp384 AAAA..."'
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("nodes")
            if not isinstance(table, dict) or not all(isinstance(each, str) and each for each in table.values()):
                raise SettingsError(f"roster {path}: {expected}")
            nodes = {int(client): _without_comment(node) for client, node in table.items()}
        except OSError as error:
            raise SettingsError(f"cannot read roster {path}: {error.strerror}") from None
        except ValueError as error:  # of TOML, of UTF-8, of a number, of a key
            raise SettingsError(f"roster {path} is not valid ({error}); {expected}") from None
        if missing := sorted(set(clients) - set(nodes)):
            raise SettingsError(f"roster {path} has no node for client {missing[0]}; {expected}")
        if twice := [node for node in nodes.values() if list(nodes.values()).count(node) > 1]:
            raise SettingsError(f"roster {path} has the node {twice[0]!r} twice; a node speaks for one client")
        return cls(nodes)

    def identities(self, grid: Grid) -> dict[int, set[str]]:
        """Return the names and the public keys that the engine knows of its nodes, if anybody asks for them.

        Args:
            grid: the engine.
        """
        if not self._nodes:
            return {}
        return {
            node.node_id: {text for text in (node.name, _openssh(node.public_key)) if text} for node in grid.get_nodes()
        }

    def objection(self, client: int, known: Iterable[str]) -> str:
        """Return why a node may not speak for a client; empty: it may.

        Args:
            client: its id.
            known: the node's name and key.
        """
        wanted = self._nodes.get(client)
        if wanted is None or wanted in known:
            return ""
        named = [text for text in sorted(known) if not text.startswith(_KEY_TYPES)]
        who = f"it is {named[0]!r}" if named else "it has another key" if list(known) else "it has neither name nor key"
        node = "another key" if wanted.startswith(_KEY_TYPES) else repr(wanted)
        return f"the roster gives client {client} to {node}, and {who}"


def _openssh(pem: bytes) -> str:
    if not pem:
        return ""
    try:
        return load_pem_public_key(pem).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    except ValueError:
        return ""


def _without_comment(node: str) -> str:
    """A public key without what follows it in its file; a name as it is."""
    if not node.startswith(_KEY_TYPES):
        return node
    key = " ".join(node.split()[:2])
    load_ssh_public_key(key.encode())
    return key
