"""Scores and loss over rounds: means over clients, and each client alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedmosaic.report.chart import Axes, Line, draw, fit
from fedmosaic.report.record import Metric, RunRecord
from fedmosaic.report.switches import common_switches, switches

_MOST_DOTS = 25


@dataclass(frozen=True)
class ClientChart:
    """One client's chart.

    Attributes:
        client: its id.
        tasks: its own, in order.
        chart: Self and Others over rounds, as SVG.
    """

    client: int
    tasks: tuple[str, ...]
    chart: Markup


@dataclass(frozen=True)
class Curves:
    """All charts over rounds, as SVG; an empty chart means that nothing was measured.

    Attributes:
        self_: mean Self of all clients.
        others: mean Others of all clients.
        loss: mean training loss of all clients.
        clients: one chart per client.
    """

    self_: Markup
    others: Markup
    loss: Markup
    clients: list[ClientChart]


def curves(record: RunRecord) -> Curves:
    """Return all charts; those of Self and Others share one vertical axis.

    Args:
        record: the run.
    """
    means = {metric: _mean_lines(record, metric) for metric in ("self", "others")}
    panels = {client: _client_lines(record, client) for client in record.clients}
    every = [line for lines in (*means.values(), *panels.values()) for line in lines]
    rounds = record.settings.rounds
    axes = fit(every, rounds=rounds, label="score (%)", show=lambda v: f"{v:.1f}", least=10.0, most=100.0)
    loss = _mean_lines(record, "loss")
    loss_axes = fit(loss, rounds=rounds, label="training loss", show=lambda v: f"{v:.2f}", least=0.1)
    common = {round_ - 0.5: "all clients begin with their next task" for round_ in common_switches(record)}
    return Curves(
        self_=_chart(means["self"], axes, "Self over rounds, mean over clients", common),
        others=_chart(means["others"], axes, "Others over rounds, mean over clients", common),
        loss=_chart(loss, loss_axes, "Training loss over rounds, mean over clients", common),
        clients=[
            ClientChart(client, record.settings.scenario.client(client).tasks, _panel(record, client, lines, axes))
            for client, lines in panels.items()
            if any(line.points for line in lines)
        ],
    )


def _chart(lines: list[Line], axes: Axes, what: str, switches: Mapping[float, str]) -> Markup:
    if not any(line.points for line in lines):
        return Markup("")
    ends = [f"{line.name} {axes.show(line.points[-1][1])}" for line in lines if line.end and line.points]
    return draw(lines, axes, title=f"{what}. Last values: {'; '.join(ends)}. Scale: {axes.label}", switches=switches)


def _panel(record: RunRecord, client: int, lines: list[Line], axes: Axes) -> Markup:
    marks = {round_ - 0.5: "the next task begins" for round_ in switches(record, client)}
    return draw(lines, axes, title=f"Client {client}: Self and Others", width=270, height=190, switches=marks)


def _mean_lines(record: RunRecord, metric: Metric) -> list[Line]:
    """A thin line for each client, the mean in bold, the reference's mean over the same clients dashed."""
    each = [
        Line(_points(record, metric, (client,)), f"thin {metric}", f"client {client}", dots=False)
        for client in record.clients
        if len(record.clients) > 1
    ]
    clients = None if metric == "loss" else record.members(metric)  # of the loss: those that trained in a round
    return [*each, *_with_reference(record, metric, clients, "mean over clients")]


def _client_lines(record: RunRecord, client: int) -> list[Line]:
    return [
        line
        for metric, name in (("self", "Self"), ("others", "Others"))
        for line in _with_reference(record, "self" if metric == "self" else "others", (client,), name)
    ]


def _with_reference(record: RunRecord, metric: Metric, clients: Sequence[int] | None, name: str) -> list[Line]:
    points = _points(record, metric, clients)
    dots = len(points) <= _MOST_DOTS
    partial = () if metric == "loss" else [round_ for round_, _ in points if not record.full(round_)]
    what = f"{name}, {record.settings.method}"
    main = Line(points, f"main {metric}", what, dots=dots, end=True, partial=partial, square=metric == "others")
    if record.reference is None:
        return [main]
    local = Line(
        _points(record.reference, metric, clients), f"local {metric}", f"{name}, local only", dots=False, end=True
    )
    return [local, main]


def _points(record: RunRecord, metric: Metric, clients: Sequence[int] | None) -> list[tuple[int, float]]:
    factor = 1.0 if metric == "loss" else 100.0
    return [(round_, value * factor) for round_, value in record.curve(metric, clients)]
