from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from fedmosaic.evaluation import Measurement, summarise
from fedmosaic.experiments import comparison
from fedmosaic.experiments.paired import Difference, paired_difference, sampled_difference, task_weights


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
    half = stats.t.ppf(0.975, 39) * values.std(ddof=1) / np.sqrt(40)
    assert found.low == pytest.approx(values.mean() - half, abs=0.2 * half)


def test_a_single_number_says_nothing_of_others():
    found = paired_difference([{"a": 0.51}], [{"a": 0.5}])
    assert (found.mean, found.low, found.high) == pytest.approx((0.01, -1, 1))
    assert not found.significant


@pytest.mark.parametrize("shape", [(1, 2), (1, 4), (2, 1), (3, 1)])
def test_few_tasks_or_seeds_seldom_tell_equal_methods_apart(shape):
    random = np.random.default_rng(3)
    zero = scores(np.zeros(shape))
    false = [paired_difference(scores(random.normal(0, 0.05, shape)), zero).significant for _ in range(100)]
    assert sum(false) <= 12  # of them 5 by chance; 49, 19, 50 and 25 without the widening


def results(scored, tasks):
    """A finished run's results, of each client's score of each task."""
    samples = {client: {task: (score,) for task, score in scores.items()} for client, scores in scored.items()}
    parts = (summarise([Measurement.of(1, samples)], samples, tasks, own=own) for own in (True, False))
    return SimpleNamespace(self_=next(parts), others=next(parts), exchanged=None)


def against(mine, theirs, tasks, part="self"):
    done, methods = {"a": {0: mine}, "b": {0: theirs}}, {"a": "a", "b": "b"}
    return comparison._against_rivals("a", done, methods, part, tasks)


UNEQUAL = {0: ["w"], 1: ["x", "y", "z"], 2: ["w", "x"]}
"""Clients with unequal numbers of tasks, some of them shared."""


@pytest.mark.parametrize("part", ["self", "others"])
def test_a_lead_is_the_difference_of_the_scores_that_stand_beside_it(part):
    random = np.random.default_rng(0)
    mine, theirs = ({c: dict(zip("wxyz", random.random(4), strict=True)) for c in UNEQUAL} for _ in range(2))
    sides = [results(each, UNEQUAL) for each in (mine, theirs)]
    ours, other = (each.self_ if part == "self" else each.others for each in sides)
    found = against(*sides, UNEQUAL, part)
    assert found["mean"] == pytest.approx(ours.last - other.last)
    assert found["low"] <= found["mean"] <= found["high"]


def test_a_client_with_one_task_counts_as_much_as_one_with_three():
    tasks = {0: ["w"], 1: ["x", "y", "z"]}
    assert task_weights(tasks, own=True) == pytest.approx({"w": 1, "x": 1 / 3, "y": 1 / 3, "z": 1 / 3})
    assert task_weights(tasks, own=False) == pytest.approx({"w": 1, "x": 1 / 3, "y": 1 / 3, "z": 1 / 3})
    mine, theirs = [{"w": 1.0, "x": 0.0, "y": 0.0, "z": 0.0}], [{"w": 0.0, "x": 0.6, "y": 0.6, "z": 0.6}]
    found = paired_difference(mine, theirs, weights=task_weights(tasks, own=True))
    assert found.mean == pytest.approx(0.5 - 0.3)


def test_runs_of_which_one_lacks_a_client_are_compared_on_the_tasks_of_both():
    tasks = {0: ["w"], 1: ["x"], 2: ["y"]}
    scored = {client: dict.fromkeys("wxy", 0.5) for client in tasks}
    better = {client: dict.fromkeys("wxy", 0.75) for client in (0, 1)}
    assert against(results(scored, tasks), results(better, tasks), tasks)["mean"] == pytest.approx(-0.25)
    alone = {2: dict.fromkeys("wxy", 0.75)}
    assert against(results(better, tasks), results(alone, tasks), tasks) is None


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


# ---- question by question --------------------------------------------------------------------------------------------


def answered(rng, right, *, clients=4, tasks=2, samples=16):
    """Scores of single samples, and each client's tasks; ``right(client)`` is the share of right answers."""
    own = {k: [f"{k}-{t}" for t in range(tasks)] for k in range(clients)}
    return {k: {t: (rng.random(samples) < right(k)).astype(float) for t in own[k]} for k in own}, own


def test_the_mean_is_that_of_self_whatever_the_numbers_of_tasks_and_samples():
    rng = np.random.default_rng(0)
    own = {0: ["a"], 1: ["a", "b", "c"]}
    sizes = {"a": 7, "b": 20, "c": 3}
    mine, theirs = ({k: {t: rng.random(sizes[t]) for t in own[k]} for k in own} for _ in range(2))
    found = sampled_difference([mine], [theirs], own)
    of_client = [np.mean([mine[k][t].mean() - theirs[k][t].mean() for t in own[k]]) for k in own]
    assert found.mean == pytest.approx(np.mean(of_client))
    assert found.low < found.mean < found.high


@pytest.mark.slow
@pytest.mark.parametrize("shape", [{"clients": 1, "tasks": 1}, {"clients": 4, "tasks": 2}, {"tasks": 1, "samples": 60}])
def test_equal_methods_are_rarely_told_apart_and_unequal_ones_often(shape):
    rng = np.random.default_rng(1)
    false = sure = 0
    for i in range(200):
        (a, own), (b, _), (c, _) = (answered(rng, lambda _, p=p: p, **shape) for p in (0.6, 0.6, 0.95))
        false += sampled_difference([a], [b], own, seed=i).significant
        sure += sampled_difference([c], [b], own, seed=i).significant
    assert false <= 20
    assert sure >= 100


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_few_questions_that_all_changed_alike_are_not_sure(count):
    """Of four that changed for no reason one in eight would all have changed in one direction."""
    own = {0: ["x"], 1: ["y"]}
    right, wrong = ({0: {"x": [value] * count}} for value in (1.0, 0.0))
    assert not sampled_difference([right], [wrong], own).significant
    many, none = ({0: {"x": [value] * 20}} for value in (1.0, 0.0))
    assert sampled_difference([many], [none], own).significant


def test_more_seeds_of_the_same_narrow_no_interval_of_tasks_but_agree_on_the_mean():
    rng = np.random.default_rng(2)
    runs = [answered(rng, lambda k: 0.4 + 0.1 * k) for _ in range(6)]
    own = runs[0][1]
    found = sampled_difference([each for each, _ in runs[:3]], [each for each, _ in runs[3:]], own)
    single = [sampled_difference([a], [b], own).mean for (a, _), (b, _) in zip(runs[:3], runs[3:], strict=True)]
    assert found.mean == pytest.approx(np.mean(single))


def test_cells_that_one_side_lacks_count_for_nobody():
    a = {0: {"x": [1.0, 0.0]}, 1: {"y": [1.0]}}
    b = {0: {"x": [0.0, 0.0]}}
    assert sampled_difference([a], [b], {0: ["x", "z"], 1: ["y"]}).mean == pytest.approx(0.5)
    assert sampled_difference([a], [b], {1: ["y"]}) is None
    with pytest.raises(ValueError, match="samples of task x"):
        sampled_difference([a], [{0: {"x": [1.0]}}], {0: ["x"]})
