"""``query-response``: a query and its response (ms-swift)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import marked
from fedmosaic.data.formats.plain import Plain, has, history_turns, system_turns, text_of


class QueryResponse:
    """One question with its answer, after earlier ones."""

    name = "query-response"
    keys = frozenset({"query", "response", "history", "system"})
    rank = 1

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether both are there. See :meth:`Format.claims`."""
        return has(record, "query", "response")

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return earlier turns, the question and the answer. See :meth:`Format.plain`."""
        question = text_of(record, "query")
        turns = [
            *system_turns(record),
            *history_turns(record),
            ("user", question),
            ("assistant", text_of(record, "response")),
        ]
        return marked(turns)
