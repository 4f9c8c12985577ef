"""``messages``: a chat with role and content (TRL, OpenAI, Anthropic, ms-swift, Axolotl)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import chat
from fedmosaic.data.formats.plain import Plain, has, system_turns


class Messages:
    """A list of messages, and the images that its parts or the record name."""

    name = "messages"
    keys = frozenset({"messages", "system"})
    rank = 0

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether there is such a list. See :meth:`Format.claims`."""
        return has(record, "messages")

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return the turns, a system message of the record first. See :meth:`Format.plain`."""
        return chat(record["messages"], before=system_turns(record))
