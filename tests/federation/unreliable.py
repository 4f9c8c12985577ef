"""An engine on which things go wrong by a script, and time that passes only when somebody waits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flwr.app import Error, Message

from fedmosaic.federation import flower
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.post import Clock

FIRST_NODE = 2
ERRORS = {"dead": (flower.UNKNOWN_NODE, "Node Unavailable"), "raise": (flower.CLIENT_RAISED, "ValueError")}
_LATE = 100.0


@dataclass
class FakeTime:
    """Seconds that pass by waiting alone."""

    seconds: float = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Unreliable:
    """An in-process grid with something between it and the server, which does what a script says.

    ``script(kind, round, node)`` returns what happens to a message: ``""`` nothing; ``"hang"`` the client works and its
    answer is lost; ``"late"`` it comes after 100 seconds; ``"dead"`` the client never gets the message and the engine
    says so; ``"raise"`` the client fails; ``"twice"`` its answer comes twice; ``"old"`` it is the one of the round
    before; ``"other"`` another node answers. ``tamper`` may change an answer's content.
    """

    def __init__(
        self,
        clients: Callable[..., Message],
        time: FakeTime,
        nodes: list[dict],
        script: Callable[[str, int, int], str] = lambda kind, round_, node: "",
        online: Callable[[], Iterable[int]] | None = None,
        tamper: Callable[[Message], None] = lambda reply: None,
        **run_config: str,
    ) -> None:
        self.time = time
        self.ttls: list[float] = []
        self.most_held = 0
        self._grid = InProcessGrid(clients, node_configs=nodes, run_config=run_config, catch=True)
        self._script, self._online, self._tamper = script, online, tamper
        self._held: dict[str, tuple[float, list[Message]]] = {}
        self._before: dict[tuple[str, int], Message] = {}

    def get_node_ids(self):
        return list(self._grid.get_node_ids() if self._online is None else self._online())

    def push_messages(self, messages):
        return [self._push(message) for message in messages]

    def _push(self, message: Message) -> str:
        about = message.metadata
        self.ttls.append(about.ttl)
        kind, node = about.message_type, about.dst_node_id
        happens = self._script(kind, int(about.group_id), node)
        if happens in ("dead", "raise"):
            message_id = f"undelivered-{len(self.ttls)}"
            about.__dict__["_message_id"] = message_id
            reply = Message(Error(*ERRORS[happens]), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1 if happens == "dead" else node  # the SuperLink says so
        else:
            (message_id,) = self._grid.push_messages([message])
            (reply,) = self._grid.pull_messages([message_id])
            self._tamper(reply)
        if happens == "other":
            reply.metadata.__dict__["_src_node_id"] = 99
        if happens == "old":
            reply.content = self._before[kind, node].content
        self._before[kind, node] = reply
        copies = {"hang": 0, "twice": 2}.get(happens, 1)
        self._held[message_id] = self.time.seconds + (_LATE if happens == "late" else 0.0), [reply] * copies
        self.most_held = max(self.most_held, len(self._held))
        return message_id

    def pull_messages(self, message_ids):
        there = [each for each in message_ids if each in self._held and self._held[each][0] <= self.time.seconds]
        return [reply for each in there for reply in self._held.pop(each)[1]]
