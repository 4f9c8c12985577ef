"""The clients as the server knows them: what each says of itself, and whether all fit together."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import RecordDict

from fedmosaic.errors import RunError, WireError
from fedmosaic.federation import wire

_TEXTS = ("architecture", "model", "alignment", "proxy", "upload", "download")
_MAX_VALUES = 2**31
_MAX_TENSORS = 2**16
_LONGEST = 200
_OF_MODEL = ("layer.", "block.", "tower.")
"""What the names of tensors begin with that a client has for its own model; all others every client of a run has."""
_NAME = re.compile(rf"(?!.*\.\.)[\w.|@-]{{1,{_LONGEST}}}", re.ASCII)


@dataclass(frozen=True)
class Peer:
    """A client as the server knows it: what it said of itself, checked against the scenario.

    Attributes:
        client: its id.
        node: the engine's number of it.
        architecture: of its base model.
        alignment: digest of its bases; empty if it has none.
        shapes: of its upload's tensors.
        proxy: architecture of its proxy model; empty if it has none.
        downloads: shapes of the tensors that it may be sent.
        own_tasks_only: whether it is never scored on the others' tasks, of which it has no samples.
    """

    client: int
    node: int
    architecture: str
    alignment: str
    shapes: Mapping[str, tuple[int, ...]]
    proxy: str = ""
    downloads: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    own_tasks_only: bool = False

    @property
    def title(self) -> str:
        """For error texts."""
        return f"client {self.client}"


def introduction(node: int, content: RecordDict) -> Peer:
    """Return a client that has introduced itself.

    Args:
        node: that has answered.
        content: of its answer to ``query.hello``.

    Raises:
        WireError: it does not say what it should.
    """
    sender = f"node {node}"
    wire.check_records(content, {"meta"}, sender=sender)
    said = wire.meta(content, dict.fromkeys(_TEXTS, str) | {"client": int, "own-tasks-only": bool}, sender=sender)
    for key in ("architecture", "model", "alignment", "proxy"):
        if len(said[key]) > _LONGEST or not said[key].isprintable():
            raise WireError(f"{sender} sent {key} = {wire.quoted(said[key])}; expected at most {_LONGEST} characters")
    uploads, downloads = (_announced(key, said[key], sender) for key in ("upload", "download"))
    return Peer(
        said["client"],
        node,
        said["architecture"],
        said["alignment"],
        uploads,
        said["proxy"],
        downloads,
        said["own-tasks-only"],
    )


def _announced(what: str, text: str, sender: str) -> dict[str, tuple[int, ...]]:
    """The shapes that all later messages of a kind are held to; their values must fit into memory."""
    shapes = wire.shapes_from_json(text, sender=sender)
    values = sum(math.prod(shape) for shape in shapes.values())
    if values > _MAX_VALUES or len(shapes) > _MAX_TENSORS:
        raise WireError(
            f"{sender} announces {what}s of {len(shapes)} tensors with {values} values; "
            f"the limits are {_MAX_TENSORS} and {_MAX_VALUES}"
        )
    for name in shapes:
        if not _NAME.fullmatch(name):
            raise WireError(
                f"{sender} announces the tensor {wire.quoted(name)}; expected at most {_LONGEST} letters, digits and "
                "any of .-_|@ without .. in it"
            )
    return shapes


def commonest_first(peers: Sequence[Peer]) -> list[Peer]:
    """Return clients in an order in which those come first that announce what most do.

    So no single one decides what fits: first counts what all must have alike, then what those of one model must.

    Args:
        peers: some clients; those that are equally common stay in their order.
    """

    def like(peer: Peer) -> tuple[object, ...]:
        common = {name: shape for name, shape in peer.shapes.items() if not name.startswith(_OF_MODEL)}
        return peer.alignment, peer.proxy, frozenset(common.items())

    def whole(peer: Peer) -> tuple[object, ...]:
        return like(peer), peer.architecture, frozenset(peer.shapes.items())

    alike, equal = Counter(map(like, peers)), Counter(map(whole, peers))
    return sorted(peers, key=lambda peer: (-alike[like(peer)], -equal[whole(peer)]))


def check_fit(peers: Sequence[Peer]) -> None:
    """Make sure that the clients' uploads can be combined.

    Args:
        peers: all clients.

    Raises:
        RunError: names two that do not fit.
    """
    _check_shared_shapes(peers)
    advice = "make one with fedmosaic align and give its folder to all sites as adapter.alignment"
    _check_alike("uses the alignment", [(peer.title, peer.alignment) for peer in peers], advice)
    advice = "install the same release and the same model folder at all sites"
    _check_alike("has the proxy model", [(peer.title, peer.proxy) for peer in peers], advice)
    _check_names(peers)


def _check_shared_shapes(peers: Sequence[Peer]) -> None:
    """Tensors that clients may combine must have one shape: shared ones everywhere, others within an architecture."""
    seen: dict[tuple[str, str], tuple[str, tuple[int, ...]]] = {}
    for peer in peers:
        for name, shape in peer.shapes.items():
            scope = peer.architecture if name.startswith("layer.") else ""
            other, known = seen.setdefault((scope, name), (peer.title, shape))
            if known != shape:
                raise RunError(f"{peer.title} has {name!r} with shape {shape}, {other} with {known}; ranks must agree")


def _check_names(peers: Sequence[Peer]) -> None:
    """Those of one model announce the same tensors of it, and all the same others: methods count on that."""
    seen: dict[str | None, tuple[str, set[str]]] = {}
    for peer in peers:
        own = {name for name in peer.shapes if name.startswith(_OF_MODEL)}
        for scope, names in ((peer.architecture, own), (None, peer.shapes.keys() - own)):
            other, known = seen.setdefault(scope, (peer.title, names))
            if unlike := sorted(names ^ known):
                lacks, has = (peer.title, other) if unlike[0] in known else (other, peer.title)
                raise RunError(
                    f"{lacks} announces no tensor {wire.quoted(unlike[0])}, {has} does; install the same release at "
                    "all sites"
                )


def _check_alike(what: str, has: Sequence[tuple[str, str]], advice: str) -> None:
    """P and Q, and proxy models' adapters, can be mixed only above the same frozen bases or weights."""
    for title, found in has:
        first, wanted = has[0]
        if found != wanted:
            raise RunError(f"{title} {what} {found or 'none'}, {first} {wanted or 'none'}; {advice}")
