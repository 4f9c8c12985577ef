"""``turn-pairs``: a list of {human, assistant} (ms-swift) or {user, assistant} (the Cauldron, FineVision)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import is_chat, marked
from fedmosaic.data.formats.plain import Plain, Turn, has, listed, system_turns, text_of
from fedmosaic.data.records import check_keys, either
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError

_LISTS = ("conversation", "texts")
_ASKED = ("human", "user")


class TurnPairs:
    """Each entry of the list holds a question and its answer."""

    name = "turn-pairs"
    keys = frozenset({"conversation", "texts", "system"})
    rank = 0

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether there is such a list. See :meth:`Format.claims`."""
        pairs = listed(record.get("conversation") or record.get("texts"))
        return isinstance(pairs, list) and not is_chat(record.get("conversation"))

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return the turns. See :meth:`Format.plain`."""
        turns: list[Turn] = system_turns(record)
        pairs: Any = listed(either("the record", record, _LISTS))
        for pair in pairs:
            asked = next((key for key in _ASKED if isinstance(pair, Mapping) and has(pair, key, "assistant")), None)
            if asked is None:
                raise DataError(f"it holds {quoted(pair)}; expected objects with human (or user) and assistant")
            check_keys("a turn", pair, (asked, "assistant"))
            turns += [("user", text_of(pair, asked)), ("assistant", text_of(pair, "assistant"))]
        return marked(turns)
