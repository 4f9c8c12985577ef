"""``turn-pairs``: a list of {human, assistant} (ms-swift)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import marked
from fedmosaic.data.formats.plain import Plain, Turn, listed, system_turns, text_of
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError


class TurnPairs:
    """Each entry of the list holds a question and its answer."""

    name = "turn-pairs"
    keys = frozenset({"conversation", "system"})
    rank = 0

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether there is such a list. See :meth:`Format.claims`."""
        return isinstance(listed(record.get("conversation")), list)

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return the turns. See :meth:`Format.plain`."""
        turns: list[Turn] = system_turns(record)
        pairs = listed(record["conversation"])
        for pair in pairs if isinstance(pairs, list) else []:
            if not isinstance(pair, Mapping) or not pair.keys() == {"human", "assistant"}:
                raise DataError(f"'conversation' holds {quoted(pair)}; expected objects with human and assistant")
            turns += [("user", text_of(pair, "human")), ("assistant", text_of(pair, "assistant"))]
        return marked(turns)
