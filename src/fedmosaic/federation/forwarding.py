"""The ``ClientApp`` of a deployment, which starts a process for every message: it hands the message on and ends.

A node that is ``resident`` has one more process, which loads the base model once and answers all messages of its runs.
It is started when the first message comes. Without it, the message is answered here, and all is loaded for it.
"""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedmosaic.federation import flower
from fedmosaic.federation.client_errors import guarded
from fedmosaic.federation.node_settings import NodeSettings
from fedmosaic.federation.resident import Resident


class Forwarding(ClientApp):
    """Answers every message in the resident process, or in this one."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Return the reply to a message; an error that is safe to send where there is none.

        Args:
            message: from the server.
            context: of this node.
        """
        return guarded(message, context, _forwarded)


def _forwarded(message: Message, context: Context) -> Message:
    node = NodeSettings.of(context.node_config)
    return _ask_resident(node, message, context) if node.resident else _answer(message, context)


def _answer(message: Message, context: Context) -> Message:
    from fedmosaic.federation import client_app  # noqa: PLC0415 - loads torch

    return client_app.app(message, context)


def _ask_resident(node: NodeSettings, message: Message, context: Context) -> Message:
    reply = Resident(node).ask(flower.speaker(), flower.context_bytes(context), flower.message_bytes(message))
    return flower.message_of(reply)


app = Forwarding()
