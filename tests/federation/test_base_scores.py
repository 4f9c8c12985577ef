"""Scores of base models are measured once on a machine, and again whenever what is kept does not fit the question."""

import pytest

from fedmosaic.data.sample import Sample
from fedmosaic.evaluation import TaskScore
from fedmosaic.federation.base_scores import BaseScores

TASKS = {"count": [Sample("a", ("x.png",), "<image> How many?", "2"), Sample("b", (), "How many?", "3")]}
SCORES = {"count": TaskScore((1 / 3, 1.0))}


class Measure:
    calls = 0

    def __call__(self):
        self.calls += 1
        return SCORES


@pytest.fixture
def measure():
    return Measure()


class Pictures:
    """Pictures that show what they are said to show."""

    def __init__(self, shown):
        self.shown = shown

    def digest(self, key):
        return f"{key} shows {self.shown}"


def known(folder, shown="a cat", **how):
    return BaseScores(folder, how, Pictures(shown))


def test_another_process_reads_what_one_measured(tmp_path, measure):
    first = known(tmp_path)
    assert first.get("llama", TASKS, measure) == first.get("llama", TASKS, measure) == SCORES
    assert known(tmp_path).get("llama", TASKS, measure) == SCORES
    assert measure.calls == 1


@pytest.mark.parametrize(
    "other",
    [
        {"architecture": "qwen"},
        {"shown": "a dog"},
        {"how": {"open_metric": "rouge-l"}},
        {"tasks": {"count": TASKS["count"][:1]}},
        {"tasks": {"count": [TASKS["count"][0], Sample("b", (), "How many?", "4")]}},
    ],
)
def test_another_question_is_measured(tmp_path, measure, other):
    known(tmp_path).get("llama", TASKS, measure)
    again = known(tmp_path, other.get("shown", "a cat"), **other.get("how", {}))
    again.get(other.get("architecture", "llama"), other.get("tasks", TASKS), measure)
    assert measure.calls == 2


def test_pictures_that_nobody_asks_about_do_not_matter(tmp_path, measure):
    texts = {"count": TASKS["count"][1:] * 2}
    known(tmp_path).get("llama", texts, measure)
    known(tmp_path, "a dog").get("llama", texts, measure)
    assert measure.calls == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"count": [1.0]}', '{"count": ["x", 1]}', '{"other": [0, 1]}'])
def test_a_damaged_file_is_measured_again_and_replaced(tmp_path, measure, content):
    known(tmp_path).get("llama", TASKS, measure)
    (path,) = tmp_path.glob("*.json")
    path.write_text(content)
    assert known(tmp_path).get("llama", TASKS, measure) == SCORES
    assert known(tmp_path).get("llama", TASKS, measure) == SCORES
    assert measure.calls == 2
