"""``alpaca``: an instruction, an input and the output (Alpaca, LLaMA-Factory, Axolotl)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import marked
from fedmosaic.data.formats.plain import Plain, has, history_turns, system_turns, text_of


class Alpaca:
    """The input, where there is one, stands below the instruction."""

    name = "alpaca"
    keys = frozenset({"instruction", "input", "output", "history", "system"})
    rank = 1

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether both are there. See :meth:`Format.claims`."""
        return has(record, "instruction", "output")

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return earlier turns, the question and the answer. See :meth:`Format.plain`."""
        question = "\n".join(filter(None, (text_of(record, "instruction"), text_of(record, "input"))))
        turns = [
            *system_turns(record),
            *history_turns(record),
            ("user", question),
            ("assistant", text_of(record, "output")),
        ]
        return marked(turns)
