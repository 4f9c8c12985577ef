"""Line charts as inline SVG: a few kilobytes each, styled by the page, readable without scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_TOP, _BOTTOM, _LEFT = 12, 38, 50
_LABEL_GAP = 13
"""Least distance of two value labels at the right end, in SVG units (text is 12 high)."""
_VALUE, _LETTER, _LABELS = 52, 7, 0.4
"""Widths of a value and of one letter after it, in SVG units, and the largest share of a chart that both may have."""


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        points: (round or whatever runs across, value).
        css: classes; they decide colour, width and dashes.
        name: for the tooltip.
        dots: mark the points (each with its own tooltip).
        end: write the last value at the right end.
        tag: written after it; cut to what leaves most of the chart to the lines.
        partial: points that are less sure than the others; their marks are hollow.
        square: whether marks are squares, to tell lines apart without colour.
    """

    points: Sequence[tuple[float, float]]
    css: str
    name: str
    dots: bool = True
    end: bool = False
    tag: str = ""
    partial: Collection[float] = ()
    square: bool = False


@dataclass(frozen=True)
class Axes:
    """What both axes show.

    Attributes:
        rounds: the horizontal axis goes from 0 to here.
        marks: grid lines of the vertical axis, ascending; it ends at the first and the last.
        label: its title with the unit.
        show: how a value is written.
        across: title of the horizontal axis.
    """

    rounds: float
    marks: Sequence[float]
    label: str
    show: Callable[[float], str]
    across: str = "round"


def fit(
    lines: Iterable[Line],
    *,
    rounds: float,
    label: str,
    show: Callable[[float], str],
    least: float,
    most: float = math.inf,
) -> Axes:
    """Return axes that hold all points of ``lines``, with ends on round numbers.

    Args:
        lines: of all charts that are to share the axes.
        rounds: of the whole run.
        label: of the vertical axis.
        show: how a value is written.
        least: smallest range, so that noise does not fill the chart.
        most: a value that is never exceeded.
    """
    values = [value for line in lines for _, value in line.points] or [0.0]
    low, high = min(values), max(values)
    margin = max(least - (high - low), 0.0) / 2
    bottom = low - margin if low < 0 else max(low - margin, 0.0)
    return Axes(rounds, ticks(bottom, min(high + margin, max(most, high))), label, show)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers (multiples of 1, 2 or 5 times a power of ten) around [low, high].

    Args:
        low: lower end.
        high: upper end.
        most: about how many numbers at most; at least two are returned.
    """
    width = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(width / (most - 1)))
    step = next(power * factor for factor in (1, 2, 5, 10) if width / (power * factor) <= most - 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def draw(
    lines: Sequence[Line],
    axes: Axes,
    *,
    title: str,
    width: int = 540,
    height: int = 300,
    switches: Mapping[float, str] | None = None,
) -> Markup:
    """Return one chart as SVG.

    Args:
        lines: to draw.
        axes: of the chart.
        title: for screen readers.
        width: in pixels.
        height: in pixels.
        switches: where something else begins, and what: a dotted line each.
    """
    right = min(max([14, *(_VALUE + _LETTER * len(line.tag) for line in lines if line.end)]), int(_LABELS * width))
    inner_width, inner_height = width - _LEFT - right, height - _TOP - _BOTTOM

    def x(round_: float) -> float:
        return _LEFT + inner_width * round_ / max(axes.rounds, 1)

    def y(value: float) -> float:
        return _TOP + inner_height * (axes.marks[-1] - value) / (axes.marks[-1] - axes.marks[0])

    parts = [*_grid(axes, x, y, right=width - right, bottom=height - _BOTTOM)]
    for at, name in (switches or {}).items():
        parts.append(
            Markup('<line class="switch" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"><title>{}</title></line>').format(
                x(at), x(at), _TOP, height - _BOTTOM, name
            )
        )
    for line in lines:
        parts.append(_line(line, axes, x, y))
    letters = (right - _VALUE) // _LETTER
    parts += _end_labels([line for line in lines if line.end and line.points], axes, x, y, letters=letters)
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, title, Markup("").join(parts)
    )


_Scale = Callable[[float], float]
_CIRCLE = '<circle{css} cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{said}</title></circle>'
_SQUARE = '<rect{css} x="{left:.1f}" y="{top:.1f}" width="6" height="6"><title>{said}</title></rect>'


def _grid(axes: Axes, x: _Scale, y: _Scale, *, right: float, bottom: float) -> list[Markup]:
    parts = []
    digits = max(0, -math.floor(math.log10(axes.marks[1] - axes.marks[0]) + 1e-9))
    for value in axes.marks:
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{:.0f}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
            ).format(_LEFT, right, y(value), y(value), _LEFT - 6, y(value) + 4, f"{value:.{digits}f}")
        )
    for value in _round_ticks(axes.rounds, most=6 if right > 300 else 4):
        parts.append(
            Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(x(value), bottom + 16, value)
        )
    parts.append(
        Markup(
            '<text class="label" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
            '<text class="label" transform="translate(11 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>'
        ).format((_LEFT + right) / 2, bottom + 32, axes.across, (_TOP + bottom) / 2, axes.label)
    )
    return parts


def _round_ticks(rounds: float, *, most: int) -> list[int]:
    """Whole rounds from 0 on; always less than or equal to the last."""
    step = max(1, round(ticks(0, rounds, most)[1]))
    return list(range(0, math.floor(rounds) + 1, step))


def _line(line: Line, axes: Axes, x: _Scale, y: _Scale) -> Markup:
    path = " ".join(f"{x(round_):.1f},{y(value):.1f}" for round_, value in line.points)
    parts = [Markup('<polyline points="{}"><title>{}</title></polyline>').format(path, line.name)]
    for round_, value in line.points if line.dots else ():
        part = round_ in line.partial
        said = f"{line.name}, {axes.across} {round_}: {axes.show(value)}{', on some questions' if part else ''}"
        shape = _SQUARE if line.square else _CIRCLE
        css = Markup(' class="part"') if part else ""
        parts.append(
            Markup(shape).format(x=x(round_), y=y(value), left=x(round_) - 3, top=y(value) - 3, css=css, said=said)
        )
    return Markup('<g class="line {}">{}</g>').format(line.css, Markup("").join(parts))


def _end_labels(lines: Sequence[Line], axes: Axes, x: _Scale, y: _Scale, *, letters: int) -> list[Markup]:
    """The lines' last values right of their last points, moved apart where they would overlap."""
    ordered = sorted(lines, key=lambda line: y(line.points[-1][1]))
    heights = _apart([y(line.points[-1][1]) for line in ordered])
    return [
        Markup('<text class="end {}" x="{:.1f}" y="{:.1f}">{}</text>').format(
            line.css,
            x(line.points[-1][0]) + 7,
            height + 4,
            f"{axes.show(line.points[-1][1])} {_cut(line.tag, letters)}".strip(),
        )
        for line, height in zip(ordered, heights, strict=True)
    ]


def _cut(tag: str, letters: int) -> str:
    return tag if len(tag) <= letters else tag[: letters - 1] + "…"


def _apart(heights: Sequence[float]) -> list[float]:
    """Ascending heights, moved as little as a sweep down and half of it back up can do."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + _LABEL_GAP) if moved else height)
    shift = (moved[-1] - heights[-1]) / 2 if moved else 0.0
    return [height - shift for height in moved]
