"""Messages to nodes and their answers: one answer, or the reason why there is none, for each message.

A message is made when it is sent and an answer is dropped when it was used, so however many nodes there are, few
messages are in memory. Answers are matched by the message they answer: a second answer, and one that comes when nobody
waits for it any more, is never looked at.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedmosaic.federation import flower

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_PAUSE_OF_WAIT = 0.02
_PULLED_AT_ONCE = 8
_SECONDS_ON_THE_WAY = 5.0
"""A message is valid for so much longer than its answer is waited for: it may be on its way when the time is over."""
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Clock:
    """How time goes by; tests have another one.

    Attributes:
        now: seconds, from any start.
        sleep: waits for so many seconds.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def pause(self, waited: float) -> None:
        """Wait between two looks at what has arrived: little at first, so that short work is not held up by it.

        Args:
            waited: seconds since the first look.
        """
        self.sleep(min(max(_PAUSE_OF_WAIT * waited, _SHORTEST_PAUSE), _LONGEST_PAUSE))


@dataclass(frozen=True)
class Answer:
    """What became of one message.

    Attributes:
        node: to which it was sent.
        content: of the answer; None if there is none.
        why: there is none, in a few words.
        away: whether that is because the node was not connected, as the engine says.
    """

    node: int
    content: RecordDict | None
    why: str = ""
    away: bool = False


@dataclass(frozen=True)
class _Sent:
    node: int
    until: float


class Post:
    """Sends messages and collects the answers.

    Args:
        grid: the engine.
        deadline: seconds in which a message has to be answered; 0: as many as it takes.
        clock: measures them.
    """

    def __init__(self, grid: Grid, *, deadline: float = 0.0, clock: Clock | None = None) -> None:
        self.grid = grid
        self.clock = clock or Clock()
        self._deadline = deadline

    def ask(self, kind: str, contents: Iterable[tuple[int, RecordDict]], *, round_: int) -> Iterator[Answer]:
        """Send one message to each of some nodes and yield what becomes of each, as it becomes known.

        Args:
            kind: of the messages.
            contents: (node, content).
            round_: the round they belong to.

        Yields:
            One answer, or the reason why there is none, for each message.
        """
        waiting: OrderedDict[str, _Sent] = OrderedDict()
        for node, content in contents:
            ttl = self._deadline + _SECONDS_ON_THE_WAY if self._deadline else None
            sent = list(self.grid.push_messages([Message(content, node, kind, ttl=ttl, group_id=str(round_))]))
            if len(sent) != 1 or sent[0] is None:
                yield Answer(node, None, "the message could not be sent; is it too large?")
                continue
            waiting[sent[0]] = _Sent(node, self.clock.now() + (self._deadline or math.inf))
            yield from self._arrived(waiting)
        began = self.clock.now()
        while waiting:
            before = len(waiting)
            for _ in range(math.ceil(before / _PULLED_AT_ONCE)):
                yield from self._arrived(waiting)
            yield from self._overdue(waiting)
            if len(waiting) == before:
                self.clock.pause(self.clock.now() - began)

    def _arrived(self, waiting: OrderedDict[str, _Sent]) -> Iterator[Answer]:
        """Ask for the answers to a few messages, yield those that are there, and turn to other messages next time."""
        few = list(islice(waiting, _PULLED_AT_ONCE))
        if not few:
            return
        for message_id in few:
            waiting.move_to_end(message_id)
        for reply in self.grid.pull_messages(few):
            sent = waiting.pop(reply.metadata.reply_to_message_id, None)
            if sent is not None:
                yield _answer(sent.node, reply)

    def _overdue(self, waiting: OrderedDict[str, _Sent]) -> Iterator[Answer]:
        now = self.clock.now()
        for message_id in [each for each, sent in waiting.items() if sent.until <= now]:
            yield Answer(waiting.pop(message_id).node, None, f"no answer within {self._deadline:g} s")


def _answer(node: int, reply: Message) -> Answer:
    if reply.has_error():  # infrastructure answers with errors for nodes that are gone, as a sender of its own
        why = f"failed: {_one_line(reply.error.reason or f'code {reply.error.code}')}"
        return Answer(node, None, why, away=reply.error.code == flower.UNKNOWN_NODE)
    if reply.metadata.src_node_id != node:
        return Answer(node, None, f"refused: node {reply.metadata.src_node_id} has answered in its place")
    return Answer(node, reply.content)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 3] + "..."
