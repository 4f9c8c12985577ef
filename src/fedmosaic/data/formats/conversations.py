"""``conversations``: turns with from and value, or role and content (LLaVA, ShareGPT, LLaMA-Factory)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import chat, is_chat
from fedmosaic.data.formats.plain import Plain, has, system_turns
from fedmosaic.errors import DataError


class Conversations:
    """A list of turns, and the images that the record names; Mantis calls the list ``conversation``."""

    name = "conversations"
    keys = frozenset({"conversations", "conversation", "system"})
    rank = 0

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether there is such a list. See :meth:`Format.claims`."""
        return has(record, "conversations") or is_chat(record.get("conversation"))

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return the turns, a system message of the record first. See :meth:`Format.plain`."""
        said = [record[key] for key in ("conversations", "conversation") if record.get(key) is not None]
        if len(said) > 1:
            raise DataError("it has 'conversations' and 'conversation'; keep one of them")
        return chat(said[0], before=system_turns(record))
