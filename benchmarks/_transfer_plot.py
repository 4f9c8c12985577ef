"""The transfer test's plot: mean gains with their intervals, one line per recipe, as a standalone SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

PANELS = {"as_is": "as it is, without training", "few_steps": "as the start of a few steps, against zero"}
GROUPS = {"learned": ("#b34a00", "skills that the source learned"), "all": ("#0064a4", "all skills")}
_LEFT, _PANEL, _GAP, _ROW, _TOP = 190, 300, 40, 44, 64


def write_plot(summary: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the summary of ``transfer.py``."""
    cells = [
        cell
        for result in summary.values()
        for panel in PANELS
        for group in GROUPS
        if (cell := result.get(f"{group}.{panel}"))
    ]
    reach = max([5.0, *(abs(mean) + _drawn(half) for mean, half in cells)]) * 1.05
    height = _TOP + _ROW * len(summary) + 50
    parts = [*_legend()]
    for number, (panel, title) in enumerate(PANELS.items()):
        left = _LEFT + number * (_PANEL + _GAP)
        parts += _axis(left, title, reach, bottom=height - 44)
        for row, (recipe, result) in enumerate(summary.items()):
            y = _TOP + _ROW * row + _ROW // 2
            if number == 0:
                parts.append(
                    Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(_LEFT - 14, y + 4, recipe)
                )
            for offset, (group, (colour, _)) in zip((-7, 7), GROUPS.items(), strict=True):
                if cell := result.get(f"{group}.{panel}"):
                    parts.append(_interval(left, y + offset, *cell, colour=colour, reach=reach))
    picture = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" role="img" '
        'aria-label="Transfer of P and Q between architectures: gain in points per recipe" '
        'font-family="system-ui, sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/>{2}</svg>\n'
    ).format(_LEFT + 2 * _PANEL + _GAP + 20, height, Markup("").join(parts))
    path.write_text(picture, encoding="utf-8")


def _drawn(half: float) -> float:
    """Half an interval's length; a single skill has none."""
    return 0.0 if math.isnan(half) else half


def _x(left: float, value: float, reach: float) -> float:
    return left + _PANEL * (value + reach) / (2 * reach)


def _axis(left: float, title: str, reach: float, *, bottom: float) -> list[Markup]:
    parts = [Markup('<text x="{}" y="44" text-anchor="middle">{}</text>').format(left + _PANEL / 2, title)]
    step = next(step for step in (1, 2, 5, 10, 20, 50) if reach / step <= 4)
    for value in range(-int(reach // step) * step, int(reach) + 1, step):
        x = _x(left, value, reach)
        parts.append(
            Markup(
                '<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" stroke="{3}"/>'
                '<text x="{0:.1f}" y="{4}" text-anchor="middle" fill="#57606a">{5:+d}</text>'
            ).format(x, _TOP, bottom, "#57606a" if value == 0 else "#d5dae0", bottom + 17, value)
        )
    parts.append(
        Markup('<text x="{}" y="{}" text-anchor="middle" fill="#57606a">gain (points)</text>').format(
            left + _PANEL / 2, bottom + 36
        )
    )
    return parts


def _interval(left: float, y: float, mean: float, half: float, *, colour: str, reach: float) -> Markup:
    half = _drawn(half)
    return Markup(
        '<g stroke="{0}" fill="{0}"><title>{1:+.1f} ± {2:.1f}</title>'
        '<line x1="{3:.1f}" x2="{4:.1f}" y1="{5}" y2="{5}" stroke-width="2"/>'
        '<circle cx="{6:.1f}" cy="{5}" r="4" stroke="none"/></g>'
    ).format(colour, mean, half, _x(left, mean - half, reach), _x(left, mean + half, reach), y, _x(left, mean, reach))


def _legend() -> list[Markup]:
    parts = []
    for number, (colour, title) in enumerate(GROUPS.values()):
        x = _LEFT + 230 * number
        parts.append(
            Markup('<circle cx="{}" cy="18" r="5" fill="{}"/><text x="{}" y="22">{}</text>').format(
                x, colour, x + 10, title
            )
        )
    return parts
