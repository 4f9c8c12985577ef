"""``columns``: a question and its answer under the usual names, as in tables; a scenario names others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedmosaic.data.formats.chat import marked
from fedmosaic.data.formats.plain import Plain, number_of, system_turns, text_of
from fedmosaic.errors import DataError

_QUESTIONS, _ANSWERS, _CONTEXTS = (
    ("question", "problem", "prompt", "query", "instruction"),
    ("answer", "solution", "label", "response"),
    ("context", "input", "passage"),
)


class Columns:
    """One question with its answer, below a context if there is one. Options may be a column, too, for all formats."""

    name = "columns"
    keys = frozenset({*_QUESTIONS, *_ANSWERS, *_CONTEXTS, "system"})
    rank = 2

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether there are both. See :meth:`Format.claims`."""
        return bool(_given(record, _QUESTIONS) and _given(record, _ANSWERS))

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return the two turns. See :meth:`Format.plain`."""
        used = [_one(record, names) for names in (_QUESTIONS, _ANSWERS, _CONTEXTS) if _given(record, names)]
        question, answer, context = (*used, "")[:3]
        asked = "\n".join(filter(None, (text_of(record, context), text_of(record, question))))
        turns = [*system_turns(record), ("user", asked), ("assistant", text_of(record, answer))]
        unused = [name for names in (_QUESTIONS, _ANSWERS, _CONTEXTS) for name in _given(record, names)]
        return replace(
            marked(turns),
            number=number_of(record[answer]),
            unused=tuple(name for name in unused if name not in used),
        )


def _given(record: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    return [name for name in names if record.get(name) not in (None, "")]


def _one(record: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the name that is meant: the first, which is what a scenario's own name stands for, or the only one."""
    given = _given(record, names)
    if given[0] != names[0] and len(given) > 1:
        raise DataError(
            f"which of {', '.join(given)} is meant? say it in the scenario: columns = {{ {names[0]} = '...' }}"
        )
    return given[0]
