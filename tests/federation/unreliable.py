"""An engine on which things go wrong by a script, and time that passes only when somebody waits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flwr.app import Error, Message

from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.post import Clock

FIRST_NODE = 2


@dataclass
class FakeTime:
    """Seconds that pass by waiting alone."""

    seconds: float = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Unreliable(InProcessGrid):
    """A grid that does to a node's answers what a script says.

    ``script`` is called with (kind, round, node) of each message and returns what happens to it: ``""`` nothing;
    ``"hang"`` the client works and its answer is lost; ``"dead"`` the client never gets the message and the engine
    says so; ``"raise"`` the client fails; ``"late"`` the answer comes 100 seconds later; ``"twice"`` it comes twice;
    ``"old"`` the node sends its answer of the round before again; ``"other"`` another node answers.
    """

    clients: Callable[..., Message]
    time: FakeTime
    nodes: int
    script: Callable[[str, int, int], str] = lambda kind, round_, node: ""
    online: Callable[[], Iterable[int]] | None = None
    late: list[tuple[float, str, Message]] = field(default_factory=list)
    before: dict[tuple[str, int], Message] = field(default_factory=dict)
    ttls: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        configs = [{"partition-id": position} for position in range(self.nodes)]
        super().__init__(self.clients, node_configs=configs, run_config={}, catch=True)

    def get_node_ids(self):
        return super().get_node_ids() if self.online is None else list(self.online())

    def push_messages(self, messages):
        ids = []
        for message in messages:
            about = message.metadata
            self.ttls.append(about.ttl)
            round_, node, kind = int(about.group_id), about.dst_node_id, about.message_type
            happens = self.script(kind, round_, node)
            if happens in ("dead", "raise"):
                (message_id,) = [self._stamp(message)]
                reason = {"dead": "Node Unavailable", "raise": "ValueError"}[happens]
                reply = Message(Error(5, reason), reply_to=message)
                reply.metadata.__dict__["_src_node_id"] = 1 if happens == "dead" else node  # the SuperLink says so
                self._replies[message_id] = reply
            else:
                (message_id,) = super().push_messages([message])
                reply = self._replies[message_id]
                if happens == "hang":
                    del self._replies[message_id]
                elif happens == "late":
                    self.late.append((self.time.seconds + 100, message_id, self._replies.pop(message_id)))
                elif happens == "old":
                    reply.content = self.before[kind, node].content
                elif happens == "other":
                    reply.metadata.__dict__["_src_node_id"] = 99
                if happens != "old":
                    self.before[kind, node] = reply
                self.twice = message_id if happens == "twice" else ""
            ids.append(message_id)
        return ids

    twice: str = ""

    def pull_messages(self, message_ids):
        for arrives, message_id, reply in list(self.late):
            if arrives <= self.time.seconds:
                self._replies[message_id] = reply
        wanted = list(message_ids)
        found = list(super().pull_messages(wanted))
        return [reply for reply in found for _ in range(2 if reply.metadata.reply_to_message_id == self.twice else 1)]
