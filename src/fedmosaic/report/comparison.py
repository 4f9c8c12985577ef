"""The page of a comparison: means with intervals, differences to the best rival, curves over rounds and bytes."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedmosaic.experiments.comparison import PARTS
from fedmosaic.experiments.sweep import Plan
from fedmosaic.experiments.variant import method_and_changes
from fedmosaic.io import write_atomically
from fedmosaic.report import costs
from fedmosaic.report.chart import Line, draw, fit
from fedmosaic.report.exchange import nothing
from fedmosaic.report.record import Metric, RunRecord, read_run
from fedmosaic.report.templates import templates
from fedmosaic.report.text import duration, scored, size, spread
from fedmosaic.report.worth import Answer, change_over_seeds, judged

_TITLES: dict[Metric, str] = {"self": "Self: score on own tasks", "others": "Others: score on other clients' tasks"}
_COLUMNS = [f"{part}_{score}" for part in PARTS for score in ("last", "exchanged", "auc")] + ["unseen"]
_UNITS = (("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12))
_ALONE = "sft"
"""Local-only training, against which it is decided whether an exchange was worth it."""
Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Verdict:
    """A question about the first method, and its answer.

    Attributes:
        question: in words.
        answer: with its interval.
    """

    question: str
    answer: Answer


def comparison_page(comparison: Mapping[str, Any], plans: Sequence[Plan], path: Path) -> Path:
    """Write the page and return its path.

    Args:
        comparison: content of ``comparison.json``; the first row is shown in colour, against its best rivals.
        plans: the runs; those that are done are drawn.
        path: where.
    """
    records = [(each.variant, read_run(each.path)) for each in plans if (each.path / "results.json").is_file()]
    runs = {variant: [record for name, record in records if name == variant] for variant, _ in records}
    rows = comparison["rows"]
    html = (
        templates()
        .get_template("comparison.html")
        .render(
            comparison=comparison,
            scenario=plans[0].settings.scenario,
            rounds=plans[0].settings.rounds,
            evaluation=plans[0].settings.evaluation,
            scored=scored(plans[0].settings.evaluation),
            rows=rows,
            short=_short(rows),
            method_and_changes=method_and_changes,
            best={name: _best(rows, name) for name in _COLUMNS},
            answers={"": "", "_exchanged": ", after exchange"} if _exchanged(rows) else {"": ""},
            charts=[
                {"title": _TITLES[metric], "metric": metric, "rounds": by_rounds, "bytes": by_bytes}
                for metric in _TITLES
                if (by_rounds := _chart(runs, rows, metric, _over_rounds, "round"))
                and (by_bytes := _over_bytes(runs, rows, metric))
            ],
            size=size,
            spread=spread,
            parts=PARTS,
            verdicts=_verdicts(runs, rows),
            speeds=[_speed(row["method"], runs.get(row["method"], ())) for row in rows],
            silent=[
                f"{name}: {why}."
                for name, found in runs.items()
                if method_and_changes(name)[0] != _ALONE and (why := nothing(found[0]))
            ],
        )
    )
    write_atomically(path, html)
    return path


@dataclass(frozen=True)
class Speed:
    """What one method's runs took on the machine that they ran on.

    Attributes:
        method: its name.
        seconds: wall-clock time of a run, on average.
        tokens: trained on in a second of training; None where they were not counted.
        memory: the most that was held, in words.
    """

    method: str
    seconds: str
    tokens: float | None
    memory: str


def _speed(method: str, records: Sequence[RunRecord]) -> Speed:
    taken = [record.costs.seconds for record in records if record.costs is not None]
    mean = statistics.fmean(taken) if taken else None
    return Speed(method, duration(mean), costs.tokens_per_second(records), costs.most_memory(records))


def _verdicts(runs: Mapping[str, Sequence[RunRecord]], rows: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Of the first method: whether it was worth it against training alone, and whether it is better than its rivals."""
    first = rows[0]["method"] if rows else None
    alone = next((name for name in runs if method_and_changes(name)[0] == _ALONE and name != first), None)
    if first is None or method_and_changes(first)[0] == _ALONE:
        alone = None
    short = _short(rows)
    questions = [(alone, "training alone", "Was it worth it?")]
    for rival in dict.fromkeys(
        found["rival"] for part in PARTS if first and (found := rows[0]["against_rivals"][part])
    ):
        question = f"Is {short[str(first)]} better than {short[rival]}?"
        questions.append((rival, f"its best rival, {short[rival]}", question))
    found = []
    for name, words, question in questions:
        if name is None or name not in runs or (words != "training alone" and name == alone):
            continue
        changes = {part: each for part in _TITLES if (each := change_over_seeds(runs[str(first)], runs[name], part))}
        if changes:
            found.append(Verdict(question, judged(changes, words)))
    return found


def _best(rows: Sequence[Mapping[str, Any]], name: str) -> str | None:
    most = max((row["runs"] for row in rows), default=0)  # others are means over fewer seeds: not to be set beside
    known = [row for row in rows if row[name] and row["runs"] == most]
    return str(max(known, key=lambda row: float(row[name]["mean"]))["method"]) if known else None


def _short(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What stands for each variant where its settings, which may be many, have no room: method and number."""
    return {row["method"]: f"{method_and_changes(row['method'])[0]} ({number})" for number, row in enumerate(rows, 1)}


def _exchanged(rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(row["self_exchanged"] or row["others_exchanged"] for row in rows)


Across = Callable[[RunRecord, Metric], Curve]


def _over_rounds(record: RunRecord, metric: Metric) -> Curve:
    return [(round_, 100 * value) for round_, value in record.curve(metric, record.members(metric))]


def _over_bytes(runs: Mapping[str, Sequence[RunRecord]], rows: Sequence[Mapping[str, Any]], metric: Metric) -> Markup:
    """The same over what one client has sent and received so far, on average over the clients."""
    most = max(_bytes(record, record.round) for records in runs.values() for record in records)
    unit, factor = next(((u, f) for u, f in reversed(_UNITS) if most >= 20 * f), _UNITS[0])

    def across(record: RunRecord, metric: Metric) -> Curve:
        points = [(_bytes(record, int(round_)) / factor, value) for round_, value in _over_rounds(record, metric)]
        return points if points and points[-1][0] else points[-1:]

    return _chart(runs, rows, metric, across, f"{unit} sent and received by one client")


def _bytes(record: RunRecord, until: int) -> float:
    """Bytes of one client up to a round, mean over all clients: not all of them train, and send, in every round."""
    message = record.costs.bytes_up + record.costs.bytes_down if record.costs else 0.0
    return message * record.messages(until) / len(record.clients)


def _chart(
    runs: Mapping[str, Sequence[RunRecord]],
    rows: Sequence[Mapping[str, Any]],
    metric: Metric,
    across: Across,
    label: str,
) -> Markup:
    lines, short = [], _short(rows)
    for row in reversed(rows):  # the first is drawn last, above the others
        points = _mean_curve([across(record, metric) for record in runs[row["method"]]])
        if points:
            css = f"{_style(row, rows, metric)} {metric}"
            name = row["method"]
            lines.append(Line(points, css, name, dots=len(points) <= 1, end=True, tag=short[name]))
    if not lines:
        return Markup("")
    last = max(line.points[-1][0] for line in lines)
    axes = fit(lines, rounds=last, label="score (%)", show=lambda value: f"{value:.1f}", least=10.0, most=100.0)
    axes = dataclasses.replace(axes, across=label)
    return draw(lines, axes, title=f"{_TITLES[metric]}, by {label}", width=640, height=max(320, 90 + 14 * len(lines)))


def _style(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], metric: Metric) -> str:
    if row is rows[0]:
        return "main"
    against = rows[0]["against_rivals"][metric]
    return "local" if against and against["rival"] == row["method"] else "thin other"


def _mean_curve(curves: Sequence[Curve]) -> Curve:
    """Point by point; seeds whose curves have other points are left out (a run that measured other rounds)."""
    same = [curve for curve in curves if len(curve) == len(curves[0])]
    return [
        (statistics.fmean(x for x, _ in points), statistics.fmean(y for _, y in points))
        for points in zip(*same, strict=True)
    ]
