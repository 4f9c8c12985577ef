"""``segments``: texts that are trained on or not (Axolotl's ``input_output``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.data.formats.chat import marked
from fedmosaic.data.formats.plain import Plain, Turn, has, listed, text_of
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError


class Segments:
    """What is trained on answers what precedes it."""

    name = "segments"
    keys = frozenset({"segments"})
    rank = 0

    @classmethod
    def claims(cls, record: Mapping[str, Any]) -> bool:
        """Return whether there are segments. See :meth:`Format.claims`."""
        return has(record, "segments")

    @classmethod
    def plain(cls, record: Mapping[str, Any]) -> Plain:
        """Return the segments as turns; those of the same kind are joined. See :meth:`Format.plain`."""
        turns: list[Turn] = []
        segments = listed(record["segments"])
        for segment in segments if isinstance(segments, list) else [segments]:
            if not isinstance(segment, Mapping) or not isinstance(segment.get("label"), bool):
                raise DataError(
                    f"'segments' holds {quoted(segment)}; expected objects with text, and label true or false"
                )
            role, text = "assistant" if segment["label"] else "user", text_of(segment, "text")
            joined = bool(turns) and turns[-1][0] == role
            turns = [*turns[:-1], (role, turns[-1][1] + text)] if joined else [*turns, (role, text)]
        return marked(turns)
