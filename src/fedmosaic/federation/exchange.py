"""A message to each of some clients: the round goes on with those that answer, if they are enough.

A client is missing from an exchange if it is not there, fails, does not answer in time, or is refused, and the reason
is kept. Nothing of an answer that is refused is used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

from flwr.app import RecordDict

from fedmosaic.errors import RunError, WireError
from fedmosaic.federation.peers import Peer
from fedmosaic.federation.post import Post
from fedmosaic.federation.results import Missing

Read = TypeVar("Read")

NAMES: Mapping[str, str] = {
    "query.ready": "resumption",
    "train": "training",
    "evaluate": "evaluation",
    "evaluate.exchange": "last exchange",
}
"""What an exchange is called, by the kind of its messages."""


class Exchange:
    """Asks clients and reads their answers.

    Args:
        post: sends and collects.
        peers: the clients that are there, by id.
        min_clients: how many of those that are asked must answer; 0: all.
        tell: hears of every client that is missing.

    Attributes:
        lost: clients that were missing when they were last asked.
    """

    def __init__(
        self, post: Post, peers: Mapping[int, Peer], min_clients: int, tell: Callable[[Missing], None]
    ) -> None:
        self._post = post
        self._peers = peers
        self._least = min_clients
        self._tell = tell
        self.lost: set[int] = set()

    def ask(
        self,
        kind: str,
        clients: Collection[int],
        content: Callable[[Peer], RecordDict],
        read: Callable[[Peer, RecordDict], Read],
        *,
        round_: int,
        answered: int = 0,
    ) -> Iterator[tuple[Peer, Read]]:
        """Send each client a message and yield what the answers say, as they come.

        Args:
            kind: of the messages.
            clients: ids of those that are asked.
            content: makes a client's message, when it is sent.
            read: checks an answer and returns what is used of it.
            round_: the round that the exchange belongs to.
            answered: how many other clients have said the same already, with another answer.

        Yields:
            The client, and what was read.

        Raises:
            WireError: an answer was refused, and all are needed.
            RunError: so many clients are missing that the round cannot go on; says who and why.
        """
        quorum = _Quorum(NAMES[kind], round_, len(clients) + answered, self._least, self._tell)
        asked = {self._peers[client].node: self._peers[client] for client in clients if client in self._peers}
        for client in clients:
            if client not in self._peers:
                self.lost.add(client)
                quorum.miss(client, "not there")
        for answer in self._post.ask(kind, ((n, content(peer)) for n, peer in asked.items()), round_=round_):
            peer = asked[answer.node]
            if answer.content is None:
                self.lost.add(peer.client)
                quorum.miss(peer.client, answer.why)
                continue
            self.lost.discard(peer.client)
            try:
                said = read(peer, answer.content)
            except WireError as error:
                quorum.miss(peer.client, f"refused: {error}", error)
                continue
            yield peer, said


class _Quorum:
    """Counts who is missing from one exchange, and ends the run when too many are.

    Args:
        name: of the exchange.
        round_: of the run.
        asked: how many clients are.
        least: how many must answer, or all if fewer are asked; 0: all.
        tell: hears of everyone who is missing.
    """

    def __init__(self, name: str, round_: int, asked: int, least: int, tell: Callable[[Missing], None]) -> None:
        self._name = name
        self._round = round_
        self._asked = asked
        self._needed = min(least, asked) or asked
        self._all = not least
        self._tell = tell
        self._missing: list[Missing] = []

    def miss(self, client: int, why: str, error: WireError | None = None) -> None:
        """Note that a client is missing.

        Args:
            client: its id.
            why: in a few words.
            error: for which its answer was refused.
        """
        self._missing.append(Missing(self._round, client, self._name, why))
        self._tell(self._missing[-1])
        if self._asked - len(self._missing) >= self._needed:
            return
        if self._all and error is not None:
            raise error
        names = "; ".join(f"client {each.client}: {each.why}" for each in self._missing)
        advice = "with participation.min_clients a run goes on without some" if self._all else "--resume repeats it"
        raise RunError(
            f"round {self._round}, {self._name}: {self._needed} of {self._asked} client(s) must answer, and "
            f"{self._asked - len(self._missing)} can ({names}); {advice}"
        )
