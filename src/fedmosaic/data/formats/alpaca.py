"""``alpaca``: an instruction, an input and the output (Alpaca, LLaMA-Factory, Axolotl)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import marked
from fedmosaic.data.formats.plain import Plain, has, history_turns, system_turns, text_of
from fedmosaic.errors import DataError


class Alpaca:
    """The input, where there is one, stands below the instruction; the output may be called response."""

    name = "alpaca"
    keys = frozenset({"instruction", "input", "output", "response", "history", "system"})
    rank = 1

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether both are there. See :meth:`Format.claims`."""
        return has(record, "instruction", "output") or has(record, "instruction", "response")

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return earlier turns, the question and the answer. See :meth:`Format.plain`."""
        if has(record, "output", "response") and record["output"] != record["response"]:
            raise DataError("'output' and 'response' disagree; keep one of them")
        answer = text_of(record, "output") or text_of(record, "response")
        question = "\n".join(filter(None, (text_of(record, "instruction"), text_of(record, "input"))))
        turns = [
            *system_turns(record),
            *history_turns(record),
            ("user", question),
            ("assistant", answer),
        ]
        return marked(turns)
