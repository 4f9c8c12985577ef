"""Writes a deployment: a folder for the server, one for each node to hand over, one for the authority to lock away."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedmosaic.deployment.certificates import AUTHORITY, new_authority, renew_server_certificate
from fedmosaic.deployment.keys import new_node_key, new_secret, read_public_key, write_private
from fedmosaic.deployment.plan import Plan
from fedmosaic.deployment.roster import Entry, Roster
from fedmosaic.errors import SettingsError

_FOR_SERVER = {
    "server.env": "common/environment.j2",
    "start-superlink.sh": "server/start-superlink.sh.j2",
    "start-superexec.sh": "server/start-superexec.sh.j2",
    "start-proxy.sh": "server/start-proxy.sh.j2",
    "register-nodes.sh": "server/register-nodes.sh.j2",
    "nginx.conf": "server/nginx.conf.j2",
    "compose.yaml": "server/compose.yaml.j2",
    "systemd/fedmosaic-superlink.service": "server/fedmosaic-superlink.service.j2",
    "systemd/fedmosaic-server-superexec.service": "server/fedmosaic-server-superexec.service.j2",
    "systemd/fedmosaic-proxy.service": "server/fedmosaic-proxy.service.j2",
}
_FOR_NODE = {
    "node.env": "common/environment.j2",
    "node.toml": "node/node.toml.j2",
    "start-supernode.sh": "node/start-supernode.sh.j2",
    "start-superexec.sh": "node/start-superexec.sh.j2",
    "compose.yaml": "node/compose.yaml.j2",
    "systemd/fedmosaic-supernode.service": "node/fedmosaic-supernode.service.j2",
    "systemd/fedmosaic-node-superexec.service": "node/fedmosaic-node-superexec.service.j2",
}


class Folders(NamedTuple):
    """Where the parts of a deployment are.

    Attributes:
        authority: the authority's key and certificate.
        server: all that the server needs.
        nodes: one folder for each node, by its name.
    """

    authority: Path
    server: Path
    nodes: dict[str, Path]

    @classmethod
    def below(cls, path: Path, clients: tuple[str, ...]) -> Folders:
        """Return the parts' places.

        Args:
            path: of the whole.
            clients: the nodes' names.
        """
        return cls(path / "authority", path / "server", {name: path / "nodes" / name for name in clients})


def write_deployment(plan: Plan, path: Path, *, public_keys: Path | None = None) -> Folders:
    """Write everything that a federation is started with.

    Args:
        plan: who takes part, and where.
        path: a folder that does not exist, or is empty.
        public_keys: a folder with ``NAME.pub`` of nodes that made their keys themselves; the others' are made here.

    Returns:
        Where the parts are.

    Raises:
        SettingsError: the folder has content, or a public key cannot be used. Then nothing is written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SettingsError(f"--out {path} is not empty; keys are never overwritten: name a new folder")
    given = _given_keys(plan, public_keys)
    folders = Folders.below(path, plan.clients)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate = new_authority(folders.authority).read_bytes()
    folders.server.mkdir()
    renew_server_certificate(folders.authority, folders.server, host=plan.host, days=plan.days)
    _write_place(folders.server, _FOR_SERVER, certificate, plan=plan)
    keys = {}
    for name, folder in folders.nodes.items():
        folder.mkdir(parents=True)
        port = plan.node_ports[plan.position(name)]
        _write_place(folder, _FOR_NODE, certificate, plan=plan, node=name, node_port=port)
        keys[name] = given.get(name) or new_node_key(folder / "keys" / "node.key")
    _enrol(plan, folders.server, keys)
    return folders


def _given_keys(plan: Plan, folder: Path | None) -> dict[str, str]:
    """Read the public keys that there are, before anything is written."""
    if folder is None:
        return {}
    found = {path.stem: read_public_key(path) for path in sorted(folder.glob("*.pub"))}
    for name in found:
        plan.position(name)
    if not found:
        raise SettingsError(f"--public-keys {folder} holds no NAME.pub; NAME is one of {', '.join(plan.clients)}")
    return found


def _write_place(folder: Path, files: dict[str, str], certificate: bytes, **about: object) -> None:
    """Write the configuration of one machine, and the secret that only its own programs share."""
    environment = Environment(
        loader=PackageLoader("fedmosaic.deployment"),
        autoescape=False,  # shell scripts and configuration; what enters them are checked names, hosts and ports
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    for name, template in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(environment.get_template(template).render(folder=folder.absolute(), **about))
        if target.suffix == ".sh":
            target.chmod(0o755)
    (folder / AUTHORITY).write_bytes(certificate)
    write_private(folder / "keys" / "superexec.secret", new_secret())


def _enrol(plan: Plan, server: Path, keys: dict[str, str]) -> None:
    """Write the roster, and the keys as files, as Flower registers them."""
    entries = [Entry(name=name, position=plan.position(name), public_key=key) for name, key in keys.items()]
    (server / "roster.toml").write_text(Roster(clients=tuple(entries)).to_toml())
    (server / "nodes").mkdir()
    for entry in entries:
        (server / "nodes" / f"{entry.name}.pub").write_text(f"{entry.public_key} {entry.name}\n")
