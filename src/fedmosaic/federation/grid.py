"""The in-process engine: a Flower ``Grid`` that calls the ``ClientApp`` directly.

No sockets, no worker processes, deterministic, and a debugger steps from the server's round into the client's. Messages
are copied through their protobuf form, so nothing aliases and what would not survive a real wire does not survive here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Context, Error, Message, RecordDict, UserConfigValue
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_from_proto, recorddict_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

ClientCall = Callable[[Message, Context], Message]

_RUN_ID = 1
_SERVER_NODE_ID = 1
_UNKNOWN_NODE, _CLIENT_RAISED = 5, 2  # flwr.common.constant.ErrorCode


class InProcessGrid(Grid):
    """Runs clients one after another in the caller's process and thread.

    Args:
        client_app: the ``ClientApp``.
        node_configs: one table per node, e.g. ``{"partition-id": 0}``.
        run_config: the run's settings, as every client's context shows them.
        catch: whether a client's exception becomes an error reply, as on the other engines; if not, it is raised here.
    """

    def __init__(
        self,
        client_app: ClientCall,
        *,
        node_configs: Iterable[Mapping[str, UserConfigValue]],
        run_config: Mapping[str, UserConfigValue],
        catch: bool = False,
    ) -> None:
        # Message() reads who is speaking from this process-wide identity since flwr 1.38.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN_ID, _SERVER_NODE_ID, 0
        self._client_app = client_app
        self._catch = catch
        self._run: Run | None = None
        self._replies: dict[str, Message] = {}
        self._ids = itertools.count(1)
        self._contexts = {
            node_id: Context(_RUN_ID, node_id, dict(config), RecordDict(), dict(run_config))
            for node_id, config in enumerate(node_configs, start=_SERVER_NODE_ID + 1)
        }

    def set_run(self, run: Run) -> None:
        """Set the run.

        Args:
            run: given out by :attr:`run`.
        """
        self._run = run

    @property
    def run(self) -> Run:
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
        """Deliver each message, run its client, keep the reply for :meth:`pull_messages`, and return the messages' ids.

        Args:
            messages: from the server.
        """
        ids = []
        for message in messages:
            message_id = self._stamp(message)
            reply = self._deliver(message)
            self._stamp(reply)
            self._replies[message_id] = reply
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return, once, the replies to these messages.

        Args:
            message_ids: as :meth:`push_messages` returned them.
        """
        return [self._replies.pop(message_id) for message_id in list(message_ids) if message_id in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver messages and return their replies.

        Args:
            messages: from the server.
            timeout: ignored, as every message is answered at once.
        """
        return self.pull_messages(self.push_messages(messages))

    def _stamp(self, message: Message) -> str:
        """Give the message the id that a SuperLink would give it."""
        message_id = f"message-{next(self._ids):08d}"
        message.metadata.__dict__["_message_id"] = message_id
        return message_id

    def _deliver(self, message: Message) -> Message:
        context = self._contexts.get(message.metadata.dst_node_id)
        if context is None:
            return Message(Error(_UNKNOWN_NODE, "no such node"), reply_to=message)
        trial = Context(
            context.run_id, context.node_id, dict(context.node_config), _copy(context.state), dict(context.run_config)
        )
        try:
            reply = self._client_app(message_from_proto(message_to_proto(message)), trial)
        except Exception as error:
            if not self._catch:
                raise
            return Message(Error(_CLIENT_RAISED, type(error).__name__), reply_to=message)
        context.state = trial.state  # committed on success only, like on the other engines
        return message_from_proto(message_to_proto(reply))


def _copy(content: RecordDict) -> RecordDict:
    return recorddict_from_proto(recorddict_to_proto(content))
