from __future__ import annotations

import pytest

from fedmosaic.config.settings import EvaluationSettings
from fedmosaic.report import text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "every test question"),
        ({"split": "validation"}, "every validation question"),
        ({"final_samples_per_task": 20}, "the first 20 test questions of each task"),
    ],
)
def test_what_was_scored_is_said(settings, words):
    assert text.scored(EvaluationSettings(**settings)) == words


@pytest.mark.parametrize(("value", "shown"), [(0.7123, "71.2"), (1.0, "100.0"), (0.0, "0.0"), (None, "\u2013")])
def test_percent(value, shown):
    assert text.percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown", "way"),
    [
        (0.0312, "+3.1", "up"),
        (-0.02, "\u22122.0", "down"),
        (0.0004, "0.0", "same"),
        (-0.0004, "0.0", "same"),
        (None, "\u2013", "same"),
    ],
)
def test_points_and_their_direction_agree(value, shown, way):
    assert text.points(value) == shown
    assert text.direction(value) == way


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (120_000, "120 kB"),
        (999_700, "1.00 MB"),
        (1_536_000, "1.54 MB"),
        (2.5e18, "2500 PB"),
        (None, "\u2013"),
    ],
)
def test_size(value, shown):
    assert text.size(value) == shown


def test_flops():
    assert text.flops(3.2e12) == "3.20 TFLOP"
    assert text.flops(3.0e19) == "30.0 EFLOP"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (83.4, "1 min 23 s"),
        (3599.6, "1 h 0 min"),
        (3725, "1 h 2 min"),
    ],
)
def test_duration(value, shown):
    assert text.duration(value) == shown


def test_plural():
    assert [text.plural(count, "round") for count in (0, 1, 2)] == ["0 rounds", "1 round", "2 rounds"]
