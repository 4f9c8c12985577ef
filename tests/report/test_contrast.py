"""Colours are readable by WCAG's contrast ratio (2.1, 1.4.3: 4.5 for text), in light, in the dark and on paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fedmosaic.report

CSS = (Path(fedmosaic.report.__file__).parent / "page.css").read_text(encoding="utf-8")
LEAST = 4.5
THRESHOLD = 0.6  # of a cell's level, from which its text is the other colour: page.html and slider.html


def themes():
    """The variables of each ``:root`` block; those of a later one override the first's."""
    blocks = re.findall(r"(@media[^{]*\{\s*)?:root \{(.*?)\}", CSS, re.DOTALL)
    assert [bool(media) for media, _ in blocks] == [False, True, True]
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for _, block in blocks]
    return [found[0] | each for each in found]


def channels(colour):
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def luminance(rgb):
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in rgb]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_ratio_is_wcags():
    assert contrast([0, 0, 0], [1, 1, 1]) == pytest.approx(21)
    assert contrast(channels("#777777"), [1, 1, 1]) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", range(3))
def test_every_text_stands_out_from_what_is_behind_it(theme):
    colours = themes()[theme]
    for name in ("text", "muted", "self", "others", "loss", "up", "down"):
        for behind in ("page", "card"):
            ratio = contrast(channels(colours[name]), channels(colours[behind]))
            assert ratio >= LEAST, (name, behind, ratio)


@pytest.mark.parametrize("theme", range(3))
def test_numbers_stand_out_in_every_cell_of_a_heat_map(theme):
    colours = themes()[theme]
    low, high = channels(colours["heat-low"]), channels(colours["heat-high"])
    for step in range(101):
        level = step / 100
        cell = [level * b + (1 - level) * a for a, b in zip(low, high, strict=True)]
        text = channels(colours["heat-dark-text" if level > THRESHOLD else "heat-text"])
        assert contrast(text, cell) >= LEAST, level


def test_the_threshold_is_that_of_page_and_script():
    folder = Path(fedmosaic.report.__file__).parent
    for name in ("page.html", "slider.html", "layers.html"):
        (said,) = re.findall(r"(?:level|value) > ([0-9.]+)", (folder / name).read_text(encoding="utf-8"))
        assert float(said) == THRESHOLD


def test_lines_are_told_apart_without_colour():
    dashed = re.search(r"\.line\.local polyline \{[^}]*stroke-dasharray", CSS)
    assert dashed, "local-only training is dashed"
    assert ".line rect" in CSS, "Others has square marks, Self round ones"
