import numpy as np
import pytest

from fedmosaic.experiments.paired import Difference, paired_difference


def scores(table):
    return [{f"task-{j}": value for j, value in enumerate(row)} for row in table]


def test_a_constant_lead_is_certain_however_the_tasks_differ():
    base = np.random.default_rng(0).random((3, 40))
    found = paired_difference(scores(base + 0.02), scores(base))
    assert (found.mean, found.low, found.high) == pytest.approx((0.02, 0.02, 0.02))
    assert found.significant


def test_the_interval_has_the_width_that_theory_gives_for_task_and_seed_effects():
    """Variance of the mean: var(task effect)/T + var(seed effect)/S, each with the bootstrap's (n - 1)/n."""
    random = np.random.default_rng(1)
    tasks, seeds = random.normal(0, 0.05, 40), random.normal(0, 0.03, 30)
    table = tasks[None, :] + seeds[:, None]
    found = paired_difference(scores(table), scores(np.zeros_like(table)))
    wanted = 2 * 1.96 * np.sqrt(tasks.var() / 40 + seeds.var() / 30)
    assert found.high - found.low == pytest.approx(wanted, rel=0.05)
    assert found.low < found.mean < found.high


def test_seeds_that_disagree_make_a_lead_uncertain():
    """The same 120 differences are certain as 120 independent ones, not as three seeds of which one reverses them."""
    table = np.repeat([[0.03], [0.03], [-0.03]], 40, axis=1)
    assert not paired_difference(scores(table), scores(np.zeros_like(table))).significant


def test_one_seed_is_judged_over_its_tasks():
    values = np.random.default_rng(2).normal(0.05, 0.1, (1, 40))
    found = paired_difference(scores(values), scores(np.zeros_like(values)))
    half = 1.96 * values.std() / np.sqrt(40)
    assert found.low == pytest.approx(values.mean() - half, abs=0.2 * half)


@pytest.mark.parametrize(
    ("mine", "theirs"), [([], []), ([{"a": 1.0}], [{"b": 1.0}]), ([{"a": 1.0}], [{"a": 1.0}, {"a": 0.0}])]
)
def test_scores_that_do_not_pair_are_refused(mine, theirs):
    with pytest.raises(ValueError, match="the same seeds and tasks"):
        paired_difference(mine, theirs)


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (Difference(-0.0364, -0.0488, -0.0238), "-3.6* [-4.9, -2.4]"),
        (Difference(0.0015, -0.007, 0.0119), "+0.1 [-0.7, +1.2]"),
    ],
)
def test_a_difference_in_points_has_a_star_where_zero_lies_outside(difference, text):
    assert difference.in_points() == text
