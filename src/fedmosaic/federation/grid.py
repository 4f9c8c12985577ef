"""Flower ``Grid``s whose nodes are on this machine; the in-process one calls the ``ClientApp`` directly.

No sockets, no worker processes, deterministic, and a debugger steps from the server's round into the client's. Messages
are copied through their protobuf form, so nothing aliases and what would not survive a real wire does not survive here.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from concurrent.futures import Future
from functools import partial

from flwr.app import Context, Error, Message, RecordDict, UserConfigValue
from flwr.serverapp import Grid

from fedmosaic import events
from fedmosaic.errors import WireError
from fedmosaic.federation import flower, wire
from fedmosaic.training.cohort import Cohort

ClientCall = Callable[[Message, Context], Message]

_RUN_ID = 1
_SERVER_NODE_ID = 1
_TRAIN = "train"
_OF_SCORES = ("evaluate", "evaluate.exchange")


class LocalGrid(Grid):
    """The nodes and the messages of one run on this machine; who answers a message is for the engine to say.

    Args:
        node_configs: one table per node, e.g. ``{"partition-id": 0}``.
        run_config: the run's settings, as every client's context shows them.
    """

    def __init__(
        self, *, node_configs: Iterable[Mapping[str, UserConfigValue]], run_config: Mapping[str, UserConfigValue]
    ) -> None:
        flower.speak_as(run=_RUN_ID, node=_SERVER_NODE_ID)
        self._run: flower.Run | None = None
        self._replies: dict[str, Future[Message]] = {}
        self._ids = itertools.count(1)
        self._contexts = {
            node_id: Context(_RUN_ID, node_id, dict(config), RecordDict(), dict(run_config))
            for node_id, config in enumerate(node_configs, start=_SERVER_NODE_ID + 1)
        }

    @abstractmethod
    def _answer(self, message: Message, context: Context) -> Future[Message]:
        """Let a node answer; ``context`` is its own, which is changed only if it can."""

    def set_run(self, run: flower.Run) -> None:
        """Set the run.

        Args:
            run: given out by :attr:`run`.
        """
        self._run = run

    @property
    def run(self) -> flower.Run:
        """The run that was set.

        Raises:
            RuntimeError: none was set.
        """
        if self._run is None:
            raise RuntimeError("no run was set on this grid; call set_run() first")
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message from the server.

        Args:
            content: of the message.
            message_type: e.g. ``train``.
            dst_node_id: the receiving node.
            group_id: the round.
            ttl: seconds that the message is valid.
        """
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message, keep its reply for :meth:`pull_messages`, and return the messages' ids.

        Args:
            messages: from the server.
        """
        ids = []
        for message in messages:
            ids.append(self._stamp(message))
            self._replies[ids[-1]] = self._deliver(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return, once, the replies to these messages that are there.

        Args:
            message_ids: as :meth:`push_messages` returned them.
        """
        there = [each for each in list(message_ids) if each in self._replies and self._replies[each].done()]
        replies = [self._replies.pop(each).result() for each in there]
        for reply in replies:
            self._stamp(reply)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver messages and return their replies.

        Args:
            messages: from the server.
            timeout: seconds; None: however long it takes.
        """
        ids = list(self.push_messages(messages))
        futures.wait([self._replies[each] for each in ids], timeout)
        return self.pull_messages(ids)

    def _stamp(self, message: Message) -> str:
        message_id = f"message-{next(self._ids):08d}"
        flower.stamp(message, message_id)
        return message_id

    def _deliver(self, message: Message) -> Future[Message]:
        context = self._contexts.get(message.metadata.dst_node_id)
        if context is None:
            return done(Message(Error(flower.UNKNOWN_NODE, "no such node"), reply_to=message))
        return self._answer(message, context)


class InProcessGrid(LocalGrid):
    """Runs clients in the caller's process: one after another, or side by side while they train and are scored.

    With cohorts, such messages are answered when there are enough of them for one, or when the sender asks for answers
    and has sent nothing since it last asked.

    Args:
        client_app: the ``ClientApp``.
        node_configs: one table per node, e.g. ``{"partition-id": 0}``.
        run_config: the run's settings, as every client's context shows them.
        catch: whether a client's exception becomes an error reply, as on the other engines; if not, it is raised here.
        cohorts: each lets clients that compute on one device work side by side, by the device that their nodes name,
            "" for none; empty: one after another.
    """

    def __init__(
        self,
        client_app: ClientCall,
        *,
        node_configs: Iterable[Mapping[str, UserConfigValue]],
        run_config: Mapping[str, UserConfigValue],
        catch: bool = False,
        cohorts: Mapping[str, Cohort] | None = None,
    ) -> None:
        super().__init__(node_configs=node_configs, run_config=run_config)
        self._client_app = client_app
        self._catch = catch
        self._cohorts = dict(cohorts or {})
        self._waiting: dict[str, list[tuple[Message, Context, Future[Message]]]] = {}
        self._sending = False

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See :meth:`LocalGrid.push_messages`.

        Args:
            messages: from the server.
        """
        self._sending = True
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See :meth:`LocalGrid.pull_messages`.

        Args:
            message_ids: as :meth:`push_messages` returned them.
        """
        if not self._sending:
            self._answer_all()
        self._sending = False
        return super().pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """See :meth:`LocalGrid.send_and_receive`; clients in this process are not interrupted.

        Args:
            messages: from the server.
            timeout: not used.
        """
        ids = list(self.push_messages(messages))
        self._answer_all()
        return self.pull_messages(ids)

    def _answer(self, message: Message, context: Context) -> Future[Message]:
        device, kind = str(context.node_config.get("device", "")), message.metadata.message_type
        cohort = self._cohorts.get(device)
        if cohort is None or not (kind == _TRAIN or (cohort.reads and kind in _OF_SCORES)):
            try:
                return done(self._replied(message, context))
            except Exception as error:
                return done(self._failed(message, error))
        answer: Future[Message] = Future()
        waiting = self._waiting.setdefault(device, [])
        waiting.append((message, context, answer))
        if len(waiting) == cohort.most:
            self._answer_together(device)
        return answer

    def _answer_all(self) -> None:
        for device in list(self._waiting):
            self._answer_together(device)

    def _answer_together(self, device: str) -> None:
        waiting = self._waiting.pop(device)
        works = [partial(self._replied, message, context) for message, context, _ in waiting]
        outcomes = self._cohorts[device].run(works, raises=not self._catch)
        for (message, _, answer), outcome in zip(waiting, outcomes, strict=True):
            answer.set_result(outcome if isinstance(outcome, Message) else self._failed(message, outcome))

    def _replied(self, message: Message, context: Context) -> Message:
        trial = copied_context(context)
        reply = self._client_app(flower.copied(message), trial)
        context.state = trial.state  # committed on success only, like on the other engines
        return flower.copied(reply)

    def _failed(self, message: Message, error: Exception) -> Message:
        if not self._catch:
            raise error
        return Message(Error(flower.CLIENT_RAISED, type(error).__name__), reply_to=message)


def done(reply: Message) -> Future[Message]:
    """Return a reply as one that has arrived.

    Args:
        reply: to a message.
    """
    arrived: Future[Message] = Future()
    arrived.set_result(reply)
    return arrived


def copied_context(context: Context) -> Context:
    """Return a copy of a node's context that a client may change.

    Args:
        context: the node's.
    """
    return Context(
        context.run_id,
        context.node_id,
        dict(context.node_config),
        flower.copied_content(context.state),
        dict(context.run_config),
    )


def announce_training(reply: Message) -> None:
    """Tell listeners in this process that a client has trained, where it has done so in another.

    A reply that says nothing of the kind is left to the server, which refuses it.

    Args:
        reply: to any message.
    """
    if reply.has_error() or reply.metadata.message_type != "train":
        return
    try:
        said = wire.meta(reply.content, {"client": int, "round": int}, sender="a node")
        metrics = wire.metrics(reply.content, sender="a node")
        loss, seconds = metrics["loss"] if metrics["steps"] else None, metrics["seconds"]
    except (WireError, KeyError):
        return
    if str(said["round"]) == reply.metadata.group_id:
        events.emit("trained", client=said["client"], round=said["round"], loss=loss, seconds=round(seconds, 3))
