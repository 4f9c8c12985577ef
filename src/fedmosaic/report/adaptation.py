"""The page of one fast adaptation: test score over training steps, from merged adapters and from scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmosaic.io import write_atomically
from fedmosaic.report.chart import Line, draw, fit
from fedmosaic.report.templates import templates

_STARTS = {"merged": ("from the merged adapters", "self"), "scratch": ("from scratch", "self local")}


def adaptation_page(result: Mapping[str, Any], path: Path) -> Path:
    """Write the page and return its path.

    Args:
        result: ``task``, and ``merged`` and ``scratch``: scores in [0, 1] by number of steps.
        path: where.
    """
    curves = {name: {int(step): score for step, score in result[name].items()} for name in _STARTS}
    lines = [
        Line([(step, 100 * score) for step, score in sorted(curves[name].items())], css, title, end=True)
        for name, (title, css) in _STARTS.items()
    ]
    steps = sorted(curves["merged"])
    axes = fit(lines, rounds=steps[-1], label="test score (%)", show=lambda v: f"{v:.1f}", least=10.0, most=100.0)
    axes = dataclasses.replace(axes, across="training steps")
    html = (
        templates()
        .get_template("adaptation.html")
        .render(
            task=result["task"],
            chart=draw(lines, axes, title=f"Test score on {result['task']} over training steps"),
            steps=steps,
            rows=[(title, [curves[name][step] for step in steps]) for name, (title, _) in _STARTS.items()],
        )
    )
    write_atomically(path, html)
    return path
