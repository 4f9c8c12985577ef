"""Pictures of charts, drawn from columns of real tables.

Facts by kind:
    bars, pie: colours (in the order drawn), sizes (0 to 1), highest, lowest (colours)
    line: colour, trend (up, down), peak (left, right)
    hill: colour, peak
The domains are ``bars`` (vertical on white), ``hbars`` (horizontal, on dark), ``pies``, ``lines`` (on white) and
``screen`` (bright on dark, with a grid).
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fedmosaic.data.mosaic40.bank import BankBuilder, Picture
from fedmosaic.data.mosaic40.catalog import PUBLIC, TEST, TRAIN, VALIDATION
from fedmosaic.data.mosaic40.rendering import SIDE
from fedmosaic.seeding import rng as numpy_rng

PALETTE = {
    "red": "#dc322f",
    "green": "#28a03c",
    "blue": "#2f6be0",
    "orange": "#f5911e",
    "purple": "#9440b4",
    "black": "#141414",
}
DARK_PALETTE = {**PALETTE, "white": "#f5f5f5"}
del DARK_PALETTE["black"]
_SCALE = 4  # charts are drawn larger and downsampled, for smooth edges
_MARGIN = 0.12  # least distance of the highest and lowest value from the next, as a share of the axis

Column = NDArray[np.float64]

_CLIENT_TABLES = (
    "cars.json",
    "barley.json",
    "crimea.json",
    "wheat.json",
    "driving.json",
    "burtin.json",
    "us-employment.csv",
    "iowa-electricity.csv",
)
_NOT_MEASURED = frozenset(("year", "Cylinders"))


@cache
def _tables() -> Path:
    """Return the folder of vega_datasets' tables, without importing that package, which would import pandas."""
    package = find_spec("vega_datasets")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the benchmark's charts are drawn from tables of vega_datasets; install that package")
    return Path(package.origin).parent / "_data"


@cache
def _table(file: str) -> Mapping[str, Column]:
    """Return the numeric columns of one of vega_datasets' tables; missing numbers are left out."""
    text = (_tables() / file).read_text(encoding="utf-8")
    rows = json.loads(text) if file.endswith(".json") else list(csv.DictReader(io.StringIO(text)))
    found: dict[str, list[float]] = {name: [] for row in rows for name in row}
    for row in rows:
        for name in [n for n in found if row.get(n) is not None]:
            try:
                found[name].append(float(row[name]))
            except ValueError:
                del found[name]  # a column of texts
    return {name: np.array(values) for name, values in found.items()}


def _grouped(file: str, by: str, column: str) -> list[tuple[str, Column]]:
    """Return one series of a CSV table for each value of another column."""
    found: dict[str, list[float]] = {}
    with (_tables() / file).open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row[by], []).append(float(row[column]))
    return [(f"{by}.{name}", np.array(found[name])) for name in sorted(found)]


@cache
def columns(part: str) -> tuple[tuple[str, Column], ...]:
    """Return the named numeric columns that bars and pies of a part are drawn from.

    The public part uses scikit-learn's tables, the clients' parts those of vega_datasets; no column is in two parts.

    Args:
        part: ``public``, ``train``, ``validation`` or ``test``.
    """
    if part == PUBLIC:
        from sklearn import datasets as tables  # noqa: PLC0415 - takes a second to import, needed to build only

        loaders = {"wine": tables.load_wine, "iris": tables.load_iris, "cancer": tables.load_breast_cancer}
        return tuple(
            (f"{name}.{i}", np.asarray(column, dtype=np.float64))
            for name, load in loaders.items()
            for i, column in enumerate(load().data.T)
        )
    found = [
        (f"{file}.{name}", values)
        for file in _CLIENT_TABLES
        for name, values in _table(file).items()
        if name not in _NOT_MEASURED and len(values) > 10 and values.std() > 0
    ]
    return _part_of(found, part)


@cache
def series(part: str) -> tuple[tuple[str, Column], ...]:
    """Return the named time series that line charts of a part are drawn from; no series is in two parts.

    Args:
        part: ``public``, ``train``, ``validation`` or ``test``.
    """
    if part == PUBLIC:
        weather = _table("seattle-weather.csv")
        return tuple((f"weather.{n}", _smooth(weather[n])) for n in ("temp_max", "temp_min", "wind"))
    found = [(f"jobs.{name}", values) for name, values in _table("us-employment.csv").items()]
    found += _grouped("stocks.csv", "symbol", "price")
    found += _grouped("iowa-electricity.csv", "source", "net_generation")
    return _part_of(found, part)


def _smooth(values: Column) -> Column:
    return np.convolve(values, np.ones(7) / 7, mode="valid")[::7]  # weekly means


def _part_of(found: list[tuple[str, Column]], part: str) -> tuple[tuple[str, Column], ...]:
    order = numpy_rng(40, "columns").permutation(len(found))
    cuts = [round(len(found) * share) for share in (0.6, 0.75)]
    slices = dict(zip((TRAIN, VALIDATION, TEST), np.split(order, cuts), strict=True))
    return tuple(found[int(i)] for i in slices[part])


def _sizes(part: str, number: int, rng: random.Random) -> list[float]:
    """Return values of one column, scaled to at most 1, with a clear highest and lowest value."""
    while True:
        _, column = rng.choice(columns(part))
        values = np.array([column[rng.randrange(len(column))] for _ in range(number)])
        values = values - min(0.0, float(values.min()))
        if values.max() <= 0:
            continue
        values = np.maximum(values / values.max(), 0.06)
        ordered = np.sort(values)
        if ordered[-1] - ordered[-2] > _MARGIN and ordered[1] - ordered[0] > _MARGIN:
            return [round(float(v), 4) for v in values]


def _extremes(colours: list[str], sizes: list[float]) -> dict[str, str]:
    return {"highest": colours[int(np.argmax(sizes))], "lowest": colours[int(np.argmin(sizes))]}


def bars(builder: BankBuilder, domain: str, rng: random.Random, part: str) -> Picture:
    """Draw three to five bars and return the picture.

    Args:
        builder: stores the picture.
        domain: ``bars`` or ``hbars``.
        rng: draws colours and values.
        part: whose columns the values come from.
    """
    number, side = rng.randint(3, 5), SIDE * _SCALE
    inks, ground = (PALETTE, "white") if domain == "bars" else (DARK_PALETTE, "#23272e")
    colours, sizes = rng.sample(sorted(inks), number), _sizes(part, number, rng)
    image = Image.new("RGB", (side, side), ground)
    pen = ImageDraw.Draw(image)
    room, gap = side - 24, 12
    width = room // number
    for i, (colour, size) in enumerate(zip(colours, sizes, strict=True)):
        start, end, length = 20 + i * width, 20 + (i + 1) * width - gap, int(size * (side - 28))
        box = (start, side - 14 - length, end, side - 14) if domain == "bars" else (14, start, 14 + length, end)
        pen.rectangle(box, fill=inks[colour])
    axis = "#808080"
    pen.line((12, 6, 12, side - 12), fill=axis, width=4)
    if domain == "bars":
        pen.line((12, side - 12, side - 4, side - 12), fill=axis, width=4)
    return builder.add(_downsampled(image), "bars", domain, colours=colours, sizes=sizes, **_extremes(colours, sizes))


def pie(builder: BankBuilder, rng: random.Random, part: str) -> Picture:
    """Draw a pie of three to five slices and return the picture.

    Args:
        builder: stores the picture.
        rng: draws colours and values.
        part: whose columns the values come from.
    """
    number, side = rng.randint(3, 5), SIDE * _SCALE
    colours, sizes = rng.sample(sorted(PALETTE), number), _sizes(part, number, rng)
    image = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(image)
    angle = float(rng.randint(0, 359))
    for colour, size in zip(colours, sizes, strict=True):
        end = angle + 360 * size / sum(sizes)
        pen.pieslice((14, 14, side - 14, side - 14), angle, end, fill=PALETTE[colour], outline="white", width=4)
        angle = end
    return builder.add(_downsampled(image), "pie", "pies", colours=colours, sizes=sizes, **_extremes(colours, sizes))


def line(builder: BankBuilder, domain: str, rng: random.Random, part: str) -> Picture:
    """Draw a window of a time series that clearly rises or falls and return the picture.

    Args:
        builder: stores the picture.
        domain: ``lines`` or ``screen``.
        rng: draws the window and the colour.
        part: whose series the values come from.
    """
    values = _window(part, rng)
    ends = values[-3:].mean() - values[:3].mean()
    peak = "left" if values.argmax() < len(values) / 2 else "right"
    image, colour = _plot(domain, values, rng)
    return builder.add(image, "line", domain, colour=colour, trend="up" if ends > 0 else "down", peak=peak)


def hill(builder: BankBuilder, domain: str, rng: random.Random, part: str) -> Picture:
    """Draw a window of a time series with its highest point well inside one half and return the picture.

    Args:
        builder: stores the picture.
        domain: ``lines`` or ``screen``.
        rng: draws the window and the colour.
        part: whose series the values come from.
    """
    right = rng.random() < 0.5
    image, colour = _plot(domain, _peaked_window(part, rng, right=right), rng)
    return builder.add(image, "hill", domain, colour=colour, peak="right" if right else "left")


def _plot(domain: str, values: Column, rng: random.Random) -> tuple[Image.Image, str]:
    """Return a line chart of values between 0 and 1, and the line's colour."""
    side = SIDE * _SCALE
    inks, ground, grid = (PALETTE, "white", "#d8d8d8") if domain == "lines" else (DARK_PALETTE, "#0e1a14", "#27402f")
    colour = rng.choice(sorted(inks))
    image = Image.new("RGB", (side, side), ground)
    pen = ImageDraw.Draw(image)
    for at in range(16, side, 56) if domain == "screen" else (side - 16,):
        pen.line((16, at, side - 4, at), fill=grid, width=3)
    pen.line((16, 4, 16, side - 16), fill="#808080", width=4)
    across = np.linspace(22, side - 10, len(values))
    points = [(float(x), side - 24 - float(y) * (side - 44)) for x, y in zip(across, values, strict=True)]
    pen.line(points, fill=inks[colour], width=9, joint="curve")
    return _downsampled(image), colour


def _window(part: str, rng: random.Random) -> Column:
    """Return 12 to 40 neighbouring values, scaled to 0 to 1; half of all windows fall."""
    falls = rng.random() < 0.5
    for attempt in range(1000):
        values = _scaled(part, rng)
        if falls and attempt > 40:
            values = values[::-1]  # falling windows are rare: reverse the series
        ends = values[-3:].mean() - values[:3].mean()
        middle = abs(int(values.argmax()) - (len(values) - 1) / 2) < 0.12 * len(values)
        if abs(ends) > 0.3 and (ends < 0) == falls and not middle:
            return values
    raise AssertionError("no series has a clear trend")  # the tables are fixed: cannot happen


def _peaked_window(part: str, rng: random.Random, *, right: bool) -> Column:
    """Return 12 to 40 neighbouring values, scaled to 0 to 1, whose one clear peak lies inside the given half."""
    for _ in range(4000):
        values = _scaled(part, rng)
        at = int(values.argmax()) / (len(values) - 1)
        if (at > 0.5) != right:
            values, at = values[::-1], 1 - at
        half = len(values) // 2
        other = values[:half] if right else values[-half:]
        if 0.12 < abs(at - 0.5) < 0.38 and max(values[0], values[-1]) < 0.6 and other.max() < 0.9:
            return values
    raise AssertionError("no series has a clear peak")  # the tables are fixed: cannot happen


def _scaled(part: str, rng: random.Random) -> Column:
    """Return 12 to 40 neighbouring values of one series, scaled to 0 to 1."""
    while True:
        _, column = rng.choice(series(part))
        length = rng.randint(12, min(40, len(column) - 1))
        start = rng.randrange(len(column) - length)
        values = column[start : start + length]
        if values.std() > 0:
            return np.asarray((values - values.min()) / (values.max() - values.min()))


def _downsampled(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
