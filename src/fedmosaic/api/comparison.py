"""A comparison as Python sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.errors import SettingsError
from fedmosaic.experiments.comparison import ANSWERS, PARTS
from fedmosaic.nearest import hint


@dataclass(frozen=True)
class Interval:
    """A mean over seeds.

    Attributes:
        mean: in [0, 1].
        ci95: half the width of its 95 % interval; None for a single seed.
    """

    mean: float
    ci95: float | None


@dataclass(frozen=True)
class Against:
    """The difference to the best other method, paired over seeds and tasks.

    Attributes:
        rival: that method.
        mean: the difference, in [-1, 1].
        low, high: ends of its 95 % interval.
        significant: whether zero lies outside.
    """

    rival: str
    mean: float
    low: float
    high: float
    significant: bool


@dataclass(frozen=True)
class Row:
    """What a method, or a variant of one, came to; means over the seeds that are done.

    Attributes:
        method: the method, or the variant.
        runs: how many seeds are done.
        self_last, others_last: after the last round, in [0, 1].
        self_auc, others_auc: over the milestones.
        unseen: on tasks that no client trained on; None until that is measured.
        self_exchanged, others_exchanged: after the last exchange; None where no run made one.
        self_against, others_against: of the scores after the last round; None without a rival.
        self_exchanged_against, others_exchanged_against: of those after the last exchange.
        flops: of a whole run.
        bytes_up, bytes_down: of one message.
        seconds: of a whole run.
    """

    method: str
    runs: int
    self_last: Interval | None
    self_auc: Interval | None
    others_last: Interval | None
    others_auc: Interval | None
    unseen: Interval | None
    self_exchanged: Interval | None
    others_exchanged: Interval | None
    self_against: Against | None
    others_against: Against | None
    self_exchanged_against: Against | None
    others_exchanged_against: Against | None
    flops: float
    bytes_up: float
    bytes_down: float
    seconds: float


class Comparison:
    """The comparison in a folder.

    Args:
        path: holds ``comparison.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Comparison({str(self.path)!r})"

    @property
    def rows(self) -> list[Row]:
        """One row for each method or variant that has a finished run, in the order in which they were asked for."""
        return [_row(each) for each in self._table["rows"]]

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return list(self._table["seeds"])

    @property
    def budget(self) -> str:
        """What was equal: ``steps`` or ``flops``."""
        return str(self._table["budget"])

    def row(self, method: str) -> Row:
        """Return the row of a method or variant.

        Args:
            method: its name.

        Raises:
            SettingsError: there is none; names the nearest.
        """
        rows = {each.method: each for each in self.rows}
        if method not in rows:
            raise SettingsError(
                f"the comparison has no {method!r}; {hint(method, rows)}it has: {', '.join(rows) or 'nothing yet'}"
            )
        return rows[method]

    def report(self) -> Path:
        """Return the path of ``comparison.html``."""
        return self.path / "comparison.html"

    @property
    def _table(self) -> dict[str, Any]:
        try:
            table: dict[str, Any] = json.loads((self.path / "comparison.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise SettingsError(f"{self.path} holds no comparison; make one with fedmosaic.compare") from None
        return table


def _row(table: Mapping[str, Any]) -> Row:
    scores = ("self_last", "self_auc", "others_last", "others_auc", "unseen", "self_exchanged", "others_exchanged")
    against = {
        f"{part}{answer}_against": table.get(f"against_rivals{answer}", {}).get(part)
        for part in PARTS
        for answer in ANSWERS
    }
    cells: dict[str, Any] = {
        **{name: Interval(**found) if (found := table.get(name)) else None for name in scores},
        **{name: Against(**found) if found else None for name, found in against.items()},
        **{name: table[name] for name in ("flops", "bytes_up", "bytes_down", "seconds")},
    }
    return Row(method=table["method"], runs=table["runs"], **cells)
