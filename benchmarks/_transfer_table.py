"""The transfer test's table: mean gains with their intervals, and what was gained in each skill."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Any

from fedmosaic.evaluation.statistics import mean_interval

LEARNED = 0.2  # gain in the source that counts as having learned the skill

Row = dict[str, Any]


def of_kind(rows: Sequence[Row], kind: str) -> list[Row]:
    """Return rows with the accuracies of one kind only."""
    return [{key: value[kind] if isinstance(value, dict) else value for key, value in row.items()} for row in rows]


def summarise(rows: Sequence[Row]) -> Row:
    """Return mean gains in points; intervals are over skills, whose pairs and seeds are averaged first."""
    gains = {
        "as_is": lambda row: row["as_is"] - row["target_before"],
        "few_steps": lambda row: row["from_transferred"] - row["from_zero"],
        "from_zero": lambda row: row["from_zero"] - row["target_before"],
        "source": lambda row: row["source_after"] - row["source_before"],
    }
    summary: Row = {}
    for recipe, group in _grouped(rows, "recipe"):
        learned = [row for row in group if row["source_after"] - row["source_before"] >= LEARNED]
        summary[recipe] = {"rows": len(group), "learned_rows": len(learned)}
        for what, chosen in (("all", group), ("learned", learned)):
            for name, gain in gains.items():
                by_skill = [100 * mean(map(gain, some)) for _, some in _grouped(chosen, "skill")]
                if by_skill:
                    summary[recipe][f"{what}.{name}"] = mean_interval(by_skill)
    return summary


def _grouped(rows: Sequence[Row], key: str) -> list[tuple[str, list[Row]]]:
    ordered = sorted(rows, key=lambda row: str(row[key]))
    return [(name, list(group)) for name, group in itertools.groupby(ordered, key=lambda row: str(row[key]))]


def show(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the tables."""
    columns = ("source", "from_zero", "as_is", "few_steps")
    yield f"{'gain in points (95 % CI over skills)':45}" + "".join(f"{column:>15}" for column in columns)
    for recipe, result in summarise(rows).items():
        for what in ("all", "learned"):
            cells = [result.get(f"{what}.{column}") for column in columns]
            count = result["rows" if what == "all" else "learned_rows"]
            line = "".join(f"{c[0]:+8.1f} ±{c[1]:5.1f}" if c else f"{'-':>15}" for c in cells)
            yield f"{f'{recipe} ({what}, {count} rows)':45}{line}"
    yield ""
    yield f"{'skill':28}" + "".join(f"{recipe[-24:]:>26}" for recipe, _ in _grouped(rows, "recipe"))
    for skill, group in _grouped(rows, "skill"):
        cells = []
        for recipe, _ in _grouped(rows, "recipe"):
            own = [row for row in group if row["recipe"] == recipe]
            numbers = [100 * mean(row[a] - row[b] for row in own) for a, b in (
                ("source_after", "source_before"), ("as_is", "target_before"), ("from_transferred", "from_zero")
            )] if own else []  # fmt: skip
            cells.append(" / ".join(f"{number:+.0f}" for number in numbers))
        yield f"{skill:28}" + "".join(f"{cell:>26}" for cell in cells)
    yield "(per skill: source's gain / as it is / few steps, against zero)"
