from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.report.chart import Line, _apart, draw, fit, ticks

finite = st.floats(-1e6, 1e6, allow_nan=False)


def _show(value):
    return f"{value:.1f}"


@settings(deadline=None, derandomize=True)
@given(finite, st.floats(1e-3, 1e6))
def test_ticks_are_even_round_numbers_that_hold_the_range(low, width):
    marks = ticks(low, low + width)
    step = marks[1] - marks[0]
    assert 2 <= len(marks) <= 8
    assert marks[0] <= low + 1e-6 * step
    assert marks[-1] >= low + width - 1e-6 * step
    leading = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(leading - factor) for factor in (1, 2, 5, 10)) < 1e-2


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 300), max_size=8))
def test_labels_keep_their_order_and_never_overlap(heights):
    moved = _apart(sorted(heights))
    assert all(b - a >= 13 - 1e-9 for a, b in itertools.pairwise(moved))


def test_labels_with_room_stay_where_they_are():
    assert _apart([10.0, 40.0, 90.0]) == [10.0, 40.0, 90.0]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.integers(0, 40))
def test_every_point_is_inside_the_axes_and_in_proportion(values, extra):
    line = Line(list(enumerate(values)), "main self", "x")
    rounds = len(values) + extra
    axes = fit([line], rounds=rounds, label="score (%)", show=_show, least=10.0, most=100.0)
    assert axes.marks[0] >= 0
    assert axes.marks[-1] <= 100
    svg = ET.fromstring(str(draw([line], axes, title="t")))
    grid = sorted(float(each.get("y1")) for each in svg.iter("line"))
    dots = [(float(each.get("cx")), float(each.get("cy"))) for each in svg.iter("circle")]
    assert len(dots) == len(values)
    bottom, top = grid[-1], grid[0]
    for (_, y), value in zip(dots, values, strict=True):
        fraction = (value - axes.marks[0]) / (axes.marks[-1] - axes.marks[0])
        assert (bottom - y) / (bottom - top) == pytest.approx(fraction, abs=0.01)
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)


def test_names_are_escaped():
    nasty = '"><script>alert(1)</script>'
    line = Line([(0, 1.0), (1, 2.0)], "main self", nasty, end=True)
    axes = fit([line], rounds=1, label=nasty, show=_show, least=1.0)
    svg = ET.fromstring(str(draw([line], axes, title=nasty)))
    assert not list(svg.iter("script"))
    assert svg.get("aria-label") == nasty
    assert nasty in {each.text for each in svg.iter("title")}


def test_a_chart_without_points_is_only_axes():
    line = Line([], "main self", "x", end=True)
    axes = fit([line], rounds=5, label="y", show=_show, least=1.0)
    svg = ET.fromstring(str(draw([line], axes, title="t")))
    assert not list(svg.iter("circle"))
    assert [each.text for each in svg.iter("text") if each.text and each.text.isdigit()][-1] == "5"


@pytest.mark.parametrize("length", [0, 5, 40, 400])
def test_most_of_a_chart_is_the_lines_however_long_their_tags_are(length):
    line = Line([(0, 1.0), (10, 2.0)], "main self", "x", end=True, tag="m" * length)
    axes = fit([line], rounds=10, label="y", show=_show, least=1.0)
    svg = ET.fromstring(str(draw([line], axes, title="t", width=640)))
    starts = [float(each.get("x1")) for each in svg.iter("line")]
    ends = [float(each.get("x2")) for each in svg.iter("line")]
    assert min(end - start for start, end in zip(starts, ends, strict=True)) >= 0.5 * 640
    points = next(svg.iter("polyline")).get("points").split()
    assert [float(each.split(",")[0]) for each in points] == [starts[0], ends[0]]
    (said,) = [each.text for each in svg.iter("text") if each.get("class") == "end main self"]
    assert said == f"2.0 {'m' * length}".strip() or (said.endswith("m…") and length > 20)
