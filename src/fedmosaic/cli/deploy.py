"""``fedmosaic deploy``: what a federation across machines is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmosaic.cli.console import PlainConsole

deploy = typer.Typer(help="Write what a federation across machines is started with.", no_args_is_help=True)


@deploy.command("init")
def init(
    clients: Annotated[str, typer.Option(help="Names of the nodes, in the order of the scenario's clients: a,b,c")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    address: Annotated[str, typer.Option(help="HOST:PORT under which the nodes reach the server.")] = "localhost:9443",
    public_keys: Annotated[
        Path | None, typer.Option(help="A folder with NAME.pub of nodes that made their keys themselves.")
    ] = None,
    superlink_port: Annotated[int, typer.Option(help="Of the SuperLink, on the server's loopback interface.")] = 8000,
    node_port: Annotated[
        int, typer.Option(help="Of the first SuperNode, on its loopback interface; the next has the next.")
    ] = 9094,
    days: Annotated[int, typer.Option(help="How long the server's certificate is valid.")] = 397,
) -> None:
    """Write keys, certificates, configuration and start scripts of one server and its nodes: docs/deploy.md."""
    from fedmosaic.deployment import Plan, write_deployment

    names = tuple(name.strip() for name in clients.split(","))
    plan = Plan.of(clients=names, address=address, superlink_port=superlink_port, node_port=node_port, days=days)
    folders = write_deployment(plan, out, public_keys=public_keys)
    console = PlainConsole()
    console.say(f"authority: {folders.authority}  lock it away: who has its key can pretend to be the server")
    console.say(f"server:    {folders.server}")
    for name, folder in folders.nodes.items():
        key = folder / "keys" / "node.key"
        console.say(f"{name + ':':<10} {folder}{'' if key.exists() else '  its key goes to keys/node.key there'}")


@deploy.command("key")
def key(
    name: Annotated[str, typer.Argument(help="Name of the node.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.key, which stays there, and NAME.pub, to hand out.")],
) -> None:
    """Make a node's key where it belongs, as ssh-keygen -t ecdsa -b 384 does."""
    from fedmosaic.deployment import Plan, new_node_key

    Plan.of(clients=(name,))
    public = new_node_key(out / f"{name}.key")
    (out / f"{name}.pub").write_text(f"{public} {name}\n")
    PlainConsole().say(f"private, stays here: {out / f'{name}.key'}\npublic, to hand out: {out / f'{name}.pub'}")


@deploy.command("renew")
def renew(
    folder: Annotated[Path, typer.Argument(help="What deploy init wrote, with authority/ and server/ in it.")],
    host: Annotated[str, typer.Option(help="Name or address under which the nodes reach the server.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the certificate is valid.")] = 397,
) -> None:
    """Sign the server's certificate anew, for the same key; nodes need nothing new."""
    from fedmosaic.deployment import renew_server_certificate

    expires = renew_server_certificate(folder / "authority", folder / "server", host=host, days=days)
    PlainConsole().say(f"{folder / 'server' / 'server.crt'} is valid until {expires:%d %B %Y}; restart the services")
