import numpy as np
import pytest

from fedmosaic.experiments.paired import Difference, paired_difference, sampled_difference


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
