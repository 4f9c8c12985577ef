"""``conversations``: turns with from and value, or role and content (LLaVA, ShareGPT, LLaMA-Factory)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import chat
from fedmosaic.data.formats.plain import Plain, has, system_turns


class Conversations:
    """A list of turns, and the images that the record names."""

    name = "conversations"
    keys = frozenset({"conversations", "system"})
    rank = 0

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether there is such a list. See :meth:`Format.claims`."""
        return has(record, "conversations")

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return the turns, a system message of the record first. See :meth:`Format.plain`."""
        return chat(record["conversations"], before=system_turns(record))
