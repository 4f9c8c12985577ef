"""Who is there: nodes introduce themselves, and each client is spoken for by one node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from fedmosaic.adapters import TensorShapes
from fedmosaic.config import RunSettings
from fedmosaic.errors import RunError, WireError
from fedmosaic.federation import wire
from fedmosaic.federation.peers import Peer, check_fit, commonest_first, introduction
from fedmosaic.federation.post import Post
from fedmosaic.methods.base import Method

_SECONDS_BEFORE_ASKING_AGAIN = 30.0

Announced = tuple[str, TensorShapes]
"""An architecture, and the shapes of the tensors that its clients upload."""


class Attendance:
    """The clients that are there, and the nodes that speak for them.

    Args:
        post: reaches the nodes.
        settings: of the run.
        method: of the run.
        warn: is told of nodes that are refused.
        expected: gives the architecture and the uploads of a client as the server's own model of it has them; None
            where the server has no models.

    Attributes:
        peers: those that are there, by client.
    """

    def __init__(
        self,
        post: Post,
        settings: RunSettings,
        method: Method[Any],
        warn: Callable[[str], None],
        expected: Callable[[int], Announced | None] = lambda _: None,
    ) -> None:
        self._post = post
        self._settings = settings
        self._method = method
        self._run = settings.digest
        self._clients = sorted(client.id for client in settings.scenario.clients)
        self._warn = warn
        self._expected = expected
        self.peers: dict[int, Peer] = {}
        self._refused: dict[int, str] = {}
        self._again: dict[int, float] = {}
        self._warned: set[tuple[int, str]] = set()

    def gather(self, wait: float) -> None:
        """Wait until every client of the scenario is there, or as many nodes as it needs are and all have failed.

        While some have failed and others not, those that have are asked again: they may have been put right.

        Args:
            wait: seconds, at most.

        Raises:
            RunError: some are not, and the run needs them; names them and the nodes that were refused.
        """
        rules = self._settings.participation
        needed = rules.min_clients or len(self._clients)
        began = self._post.clock.now()
        online = self._meet()
        while len(self.peers) < len(self._clients) and (waited := self._post.clock.now() - began) < wait:
            if not self.peers and len(online) >= needed and self._settled() >= set(online):
                break
            self._post.clock.pause(waited)
            online = self._meet()
        if len(self.peers) < needed:
            refused = "".join(f"; node {node}: {why}" for node, why in self._refused.items())
            raise RunError(
                f"the scenario needs {f'{rules.min_clients} of ' if rules.min_clients else ''}the clients "
                f"{self._clients}, but {sorted(self.peers)} answered{refused}; "
                "start the others and resume"
            )

    def look_again(self, lost: Collection[int]) -> None:
        """See whether other nodes have come that speak for clients that are not there, or that were lost.

        Args:
            lost: clients that were missing when they were last asked.
        """
        if lost or len(self.peers) < len(self._clients):
            self._refused.clear()  # whom a node claimed to be may be gone by now, and one that failed may be well again
            self._meet()

    def _meet(self) -> list[int]:
        """Let the nodes that nobody knows yet introduce themselves, and return all that are connected."""
        online = list(self._post.grid.get_node_ids())
        settled = self._settled()
        new = [node for node in online if node not in settled]
        if not new:
            return online
        claims = []
        hello = wire.pack({"run": self._run})
        for answer in self._post.ask("query.hello", ((node, hello) for node in new), round_=0):
            if answer.content is None:
                self._refuse(answer.node, answer.why)
                pause = 0.0 if answer.away else _SECONDS_BEFORE_ASKING_AGAIN
                self._again[answer.node] = self._post.clock.now() + pause
                continue
            try:
                claims.append(introduction(answer.node, answer.content))
            except WireError as error:
                self._refuse(answer.node, str(error))
        self._decide(sorted(claims, key=lambda peer: (peer.client, peer.node)), online)
        return online

    def _decide(self, claims: Sequence[Peer], online: Collection[int]) -> None:
        allowed = []
        for peer in claims:
            if why := self._objection(peer, online):
                self._refuse(peer.node, why)
            else:
                allowed.append(peer)
        times = Counter(peer.client for peer in allowed)
        for peer in [peer for peer in allowed if times[peer.client] > 1]:
            others = ", ".join(str(each.node) for each in allowed if each.client == peer.client and each is not peer)
            self._refuse(peer.node, f"claims to be client {peer.client}, and so does node {others}")
        self._accept([peer for peer in allowed if times[peer.client] == 1])

    def _objection(self, peer: Peer, online: Collection[int]) -> str:
        """Why a node cannot be the client that it claims to be; empty if it can."""
        if peer.client not in self._clients:
            return f"claims to be client {peer.client}; the scenario has {self._clients}"
        if why := self._lacking(peer) or self._unlike(peer):
            return why
        before = self.peers.get(peer.client)
        if before is None:
            return ""
        if before.node in online:
            return f"claims to be client {peer.client}, for which node {before.node} speaks"
        if replace(before, node=peer.node) != peer:
            return f"claims to be client {peer.client}, which has introduced itself with another model or method before"
        return ""

    def _lacking(self, peer: Peer) -> str:
        """What a client does not announce, and the method cannot do without; empty if nothing."""
        lacking = sorted(set(self._method.needed) - set(peer.shapes))
        if not lacking and (peer.shapes or self._method.communicated is None):
            return ""
        what = f"no tensor {lacking[0]!r}" if lacking else "no tensors"
        return (
            f"{peer.title} announces {what}, which method {self._method.name!r} needs of every client; "
            "install the server's release on its machine"
        )

    def _unlike(self, peer: Peer) -> str:
        """How a client differs from the server's own model of it, which is to learn from its uploads; empty if not."""
        expected = self._expected(peer.client)
        if expected is None or expected == (peer.architecture, peer.shapes):
            return ""
        architecture, shapes = expected
        what, said, wanted = "the architecture", wire.quoted(peer.architecture), architecture
        for name in sorted({**shapes, **peer.shapes}):
            if shapes.get(name) != peer.shapes.get(name):
                what = f"the tensor {wire.quoted(name)} of shape"
                said, wanted = (str(each.get(name, "none")) for each in (peer.shapes, shapes))
                break
        return (
            f"{peer.title} announces {what} {said}, the server's own model of it has {wanted}, and method "
            f"{self._method.name!r} teaches that one; install the same release and the same model folder at all sites"
        )

    def _accept(self, newcomers: Sequence[Peer]) -> None:
        """Take in clients whose uploads can be combined with the others'."""
        together = {**self.peers, **{peer.client: peer for peer in newcomers}}
        try:
            check_fit([together[client] for client in sorted(together)])
        except RunError as error:
            if not self._settings.participation.min_clients:
                raise
            if len(newcomers) == 1:
                self._refuse(newcomers[0].node, str(error))
                return
            for peer in commonest_first(newcomers):  # one of them does not fit; those that most are like decide
                self._accept([peer])
        else:
            for peer in newcomers:
                self.peers[peer.client] = peer
                self._refused.pop(peer.node, None)

    def _settled(self) -> set[int]:
        """Return the nodes that are not to be asked now: those that are taken, and those that are refused."""
        now = self._post.clock.now()
        due = {node for node, at in self._again.items() if at <= now}
        return {peer.node for peer in self.peers.values()} | (self._refused.keys() - due)

    def _refuse(self, node: int, why: str) -> None:
        self._refused[node] = why
        self._again.pop(node, None)
        if (node, why) not in self._warned:
            self._warned.add((node, why))
            self._warn(f"node {node} is refused: {why}")
