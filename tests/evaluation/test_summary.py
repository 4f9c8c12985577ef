import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.evaluation import Measurement, client_means, milestones, summarise, token_f1
from fedmosaic.evaluation.metrics.rouge_l import rouge_l
from fedmosaic.evaluation.statistics import bootstrap_interval

TASKS = {0: ["a", "b"], 1: ["c"]}
SAMPLES = {
    client: {task: [float(i < round(10 * score)) for i in range(10)] for task, score in scores.items()}
    for client, scores in {0: {"a": 0.6, "b": 0.8, "c": 0.2}, 1: {"a": 0.3, "b": 0.5, "c": 0.9}}.items()
}
FIRST = Measurement(5, {0: {"a": 0.2, "b": 0.4, "c": 0.0}, 1: {"a": 0.1, "b": 0.3, "c": 0.5}})
LAST = Measurement.of(10, SAMPLES)


def test_self_and_others_by_hand():
    assert client_means(LAST, TASKS, own=True) == pytest.approx({0: 0.7, 1: 0.9})
    assert client_means(LAST, TASKS, own=False) == pytest.approx({0: 0.2, 1: 0.4})
    own = summarise([FIRST, LAST], SAMPLES, TASKS, own=True)
    assert own.last == pytest.approx(0.8)
    assert own.auc == pytest.approx(((0.3 + 0.5) / 2 + 0.8) / 2)
    assert own.per_client == pytest.approx([0.7, 0.9])
    assert own.per_task == pytest.approx({"a": 0.6, "b": 0.8, "c": 0.9})
    low, high = own.per_task_ci95["a"]
    assert 0 < low < 0.6 < high < 1
    others = summarise([FIRST, LAST], SAMPLES, TASKS, own=False)
    assert others.last == pytest.approx(0.3)
    assert others.per_task == pytest.approx({"a": 0.3, "b": 0.5, "c": 0.2})


def test_a_single_client_has_no_others():
    assert summarise([Measurement(1, {0: {"a": 1.0}})], {0: {"a": [1.0]}}, {0: ["a"]}, own=False) is None


def test_clients_with_other_samples_under_one_task_are_pooled():
    """Two organisations with test files of their own, or a reply in which a score is missing."""
    samples = {0: {"a": [1.0, 1.0, 0.0]}, 1: {"a": [0.0, 1.0]}}
    own = summarise([Measurement.of(1, samples)], samples, {0: ["a"], 1: ["a"]}, own=True)
    assert own.per_client == pytest.approx([2 / 3, 1 / 2])
    assert own.per_task == {"a": pytest.approx((2 / 3 + 1 / 2) / 2)}
    low, high = own.per_task_ci95["a"]
    assert 0 <= low < own.per_task["a"] < high <= 1


@given(st.integers(1, 9).flatmap(lambda n: st.lists(st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=1)))
def test_samples_that_all_clients_have_are_scored_by_their_means_to_the_bit(scores):
    samples = {client: {"a": each} for client, each in enumerate(scores)}
    own = summarise([Measurement.of(1, samples)], samples, dict.fromkeys(samples, ("a",)), own=True)
    means = [statistics.fmean(each) for each in zip(*scores, strict=True)]
    assert own.per_task == {"a": statistics.fmean(means)}
    assert own.per_task_ci95 == {"a": bootstrap_interval(means, seed=0)}


def test_milestones_of_the_paper():
    assert milestones(20, 4) == [5, 10, 15, 20]


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 60), st.integers(0, 60))
def test_milestones_of_a_run_that_goes_on_are_those_it_has_had_and_more(rounds, count, planned, more):
    before, after = (milestones(last, count, planned=planned) for last in (rounds, rounds + more))
    assert [each for each in after if each < rounds] == before[:-1]
    assert after[-1] == rounds + more
    assert milestones(planned, count) == milestones(planned, count, planned=planned)


def test_milestones_go_on_at_the_same_distance():
    assert milestones(32, 4, planned=20) == [5, 10, 15, 20, 25, 30, 32]
    assert milestones(12, 4, planned=20) == [5, 10, 12]


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_last_round_is_always_a_milestone(rounds, count):
    chosen = milestones(rounds, count)
    assert chosen[-1] == rounds
    assert len(chosen) == min(rounds, count)
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 1


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("red bird", "red bird", 1),
        ("Red, bird!", "red bird", 1),
        ("bird", "red bird", 2 / 3),
        ("a a", "a", 2 / 3),
        ("", "x", 0),
    ],
)
def test_token_f1(answer, gold, expected):
    assert token_f1(answer, gold) == pytest.approx(expected)


def test_rouge_l_respects_order_and_f1_does_not():
    assert rouge_l("red bird", "red bird") == pytest.approx(1)
    assert rouge_l("bird red", "red bird") == pytest.approx(0.5)
    assert token_f1("bird red", "red bird") == 1
    assert rouge_l("fish", "red bird") == 0
