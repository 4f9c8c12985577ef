"""Who learns from whom: relevance matrices as heat-maps over rounds, and their means within and between base models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from fedmosaic.report.chart import Line, draw, fit
from fedmosaic.report.record import RunRecord
from fedmosaic.report.rows import short_model
from fedmosaic.report.text import plural

_MOST_ROUNDS = 60
"""Rounds on the slider; more of them would only make the page heavy."""
_MOST_NUMBERS = 20
"""Clients up to which a cell has room for its number."""

_LITTLE = 1.5
"""How many times an even split the largest weight must be to be called more than an even split."""

Matrix = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Kind:
    """How one kind of matrix is shown."""

    name: str
    title: str
    note: str
    axis: str
    unit: str
    factor: float
    digits: int
    """Decimals of a cell's number."""
    precision: int
    """Decimals behind its colour."""
    least: float
    """Smallest range of the means' axis."""

    def show(self, value: float) -> str:
        return f"{value:.{max(self.digits, 1)}f}"


_KINDS = (
    _Kind(
        name="weights",
        title="Weights",
        note="How much of what a row's client receives comes from each column's client. "
        "A row adds up to 100 %; an even split would be {even} each.",
        axis="mean weight (%)",
        unit="%",
        factor=100.0,
        digits=0,
        precision=1,
        least=2.0,
    ),
    _Kind(
        name="similarity",
        title="Similarity",
        note="Cosine between two clients' task sketches: 1 means that their data pull the probe model the same way.",
        axis="mean similarity",
        unit="",
        factor=1.0,
        digits=2,
        precision=2,
        least=0.1,
    ),
)


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map.

    Attributes:
        text: the value as shown.
        level: the value as a darkness from 0 to 1.
    """

    text: str
    level: float


@dataclass(frozen=True)
class HeatMap:
    """One kind of matrix over rounds.

    Attributes:
        name: ``weights`` or ``similarity``.
        title, note: for people.
        low, high: values (as shown, in ``unit``) of the palest and the darkest colour, over all rounds. The scale is
            that of what is possible, so that small differences look small: an even split is in the middle of that of
            weights, and that of similarity ends at 1.
        middle: what stands in the middle of the scale, in words; empty: nothing.
        spread: in a sentence, whether the values of the last round differ by much.
        digits: decimals of a cell's number.
        unit: ``%`` or nothing.
        frames: rounds x N x N values as shown, None on the diagonal and where not finite.
        chart: means within and between base models over rounds; empty if all clients have one base model.
    """

    name: str
    title: str
    note: str
    low: float
    high: float
    middle: str
    spread: str
    digits: int
    unit: str
    frames: list[list[list[float | None]]]
    chart: Markup

    def cells(self) -> list[list[Cell]]:
        """The last round, for readers without scripts and for print."""
        return [[self._cell(value) for value in row] for row in self.frames[-1]]

    def _cell(self, value: float | None) -> Cell:
        if value is None:
            return Cell("", 0.0)
        return Cell(f"{value:.{self.digits}f}", (value - self.low) / (self.high - self.low))


@dataclass(frozen=True)
class Heat:
    """The relevance section: labels and one heat map for each kind of matrix.

    Attributes:
        rounds: those that are shown.
        every: how many rounds lie between two that are shown.
        clients: ids in the order of rows and columns.
        models: each client's base model.
        tasks: each client's own tasks.
        maps: the heat maps.
        numbers: whether cells are small enough in number to show their values.
    """

    rounds: list[int]
    every: int
    clients: list[int]
    models: list[str]
    tasks: list[tuple[str, ...]]
    maps: list[HeatMap]
    numbers: bool

    @property
    def data(self) -> dict[str, Any]:
        """What the slider's script needs."""
        keep = ("low", "high", "digits", "unit", "frames")
        return {
            "rounds": self.rounds,
            "clients": self.clients,
            "maps": {each.name: {key: getattr(each, key) for key in keep} for each in self.maps},
        }


def heat(record: RunRecord) -> Heat | None:
    """Return the section; None if there are no matrices or only one client.

    Args:
        record: the run.
    """
    clients = record.clients
    if not record.relevance or len(clients) < 2:
        return None
    models = [record.settings.scenario.client(client).model for client in clients]
    every = math.ceil(len(record.relevance) / _MOST_ROUNDS)
    shown = sorted(record.relevance)[::-1][::every][::-1]  # from the last backwards, so that the last is there
    maps = [
        _heat_map(record, kind, shown, models)
        for kind in _KINDS
        if all(kind.name in arrays for arrays in record.relevance.values())
    ]
    tasks = [record.settings.scenario.client(client).tasks for client in clients]
    names = [short_model(model) for model in models]
    return Heat(shown, every, clients, names, tasks, maps, len(clients) <= _MOST_NUMBERS)


def pair_mean(matrix: Matrix, models: Sequence[str], *, same: bool) -> float | None:
    """Return the mean of a matrix over all ordered pairs of different clients with equal, or with different, models.

    Args:
        matrix: (N, N); values that are not finite are left out.
        models: each client's base model.
        same: whether pairs with equal or with different base models are meant.

    Returns:
        None if there is no such pair.
    """
    groups = np.array([[a == b for b in models] for a in models])
    chosen = matrix[(groups == same) & ~np.eye(len(models), dtype=bool)]
    chosen = chosen[np.isfinite(chosen)]
    return float(chosen.mean()) if chosen.size else None


def _heat_map(record: RunRecord, kind: _Kind, rounds: Sequence[int], models: Sequence[str]) -> HeatMap:
    frames = [_values(record.relevance[round_][kind.name] * kind.factor, kind.precision) for round_ in rounds]
    values = [value for frame in frames for row in frame for value in row if value is not None] or [0.0]
    even = 100 / (len(models) - 1)
    weights = kind.name == "weights"
    last = [value for row in frames[-1] for value in row if value is not None] or [0.0]
    return HeatMap(
        name=kind.name,
        title=kind.title,
        note=kind.note.format(even=f"{even:.1f} %"),
        low=min(0.0, *values),
        high=max([*values, min(100.0, 2 * even) if weights else 1.0]),
        middle=f"even split {even:.1f} %" if weights and max(values) <= 2 * even <= 100 else "",
        spread=_spread_of_weights(last, even) if weights else _spread_of_similarity(last),
        digits=kind.digits,
        unit=kind.unit,
        frames=frames,
        chart=_means_chart(record, kind, models),
    )


def _spread_of_weights(values: Sequence[float], even: float) -> str:
    most, least = max(values), min(values)
    ends = f"from {least:.1f} to {most:.1f} %, where an even split is {even:.1f} %"
    if most < _LITTLE * even:
        return f"In the last round weights go {ends}: everybody learned about equally from everybody."
    return f"In the last round weights go {ends}; the largest is {most / even:.1f} times that."


def _spread_of_similarity(values: Sequence[float]) -> str:
    return f"In the last round similarities go from {min(values):.2f} to {max(values):.2f}; equal data would have 1."


def _values(matrix: Matrix, precision: int) -> list[list[float | None]]:
    return [
        # Adding zero turns -0.0 into 0.0.
        [round(float(v), precision) + 0.0 if i != j and math.isfinite(v) else None for j, v in enumerate(row)]
        for i, row in enumerate(matrix)
    ]


def _means_chart(record: RunRecord, kind: _Kind, models: Sequence[str]) -> Markup:
    lines = []
    for css, label, same in (("main within", "equal", True), ("main between", "different", False)):
        means = {r: pair_mean(record.relevance[r][kind.name], models, same=same) for r in sorted(record.relevance)}
        points = [(round_, mean * kind.factor) for round_, mean in means.items() if mean is not None]
        name = f"mean over pairs with {label} base models"
        lines.append(Line(points, css, name, end=True, tag=label, square=not same))
    if not all(line.points for line in lines):
        return Markup("")
    axes = fit(lines, rounds=record.settings.rounds, label=kind.axis, show=kind.show, least=kind.least)
    title = f"{kind.axis} of pairs with equal and with different base models, {plural(len(record.relevance), 'round')}"
    return draw(lines, axes, title=title, width=480, height=200)
