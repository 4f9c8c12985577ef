"""``prompt-completion``: a prompt and its completion, as texts or as lists of messages (TRL)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import chat
from fedmosaic.data.formats.plain import Plain, has, listed, system_turns


class PromptCompletion:
    """Each is a text, or messages that are one chat together."""

    name = "prompt-completion"
    keys = frozenset({"prompt", "completion", "system"})
    rank = 1

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether both are there. See :meth:`Format.claims`."""
        return has(record, "prompt", "completion")

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return both as one chat. See :meth:`Format.plain`."""
        said = [*_messages(record["prompt"], "user"), *_messages(record["completion"], "assistant")]
        return chat(said, before=system_turns(record))


def _messages(value: object, role: str) -> list[Any]:
    said = listed(value)
    if isinstance(said, list) and all(isinstance(message, Mapping) and "role" in message for message in said):
        return said
    return [{"role": role, "content": value}]
