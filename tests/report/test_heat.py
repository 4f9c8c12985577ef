from __future__ import annotations

import numpy as np
import pytest

from fedmosaic.report.heat import heat, pair_mean
from fedmosaic.report.record import read_run


def test_pair_means_count_ordered_pairs_of_different_clients():
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(5, 5))
    models = ["a", "b", "a", "c", "b"]
    for same in (True, False):
        chosen = [matrix[i, j] for i in range(5) for j in range(5) if i != j and (models[i] == models[j]) == same]
        assert pair_mean(matrix, models, same=same) == pytest.approx(sum(chosen) / len(chosen))
    assert pair_mean(matrix, list("abcde"), same=True) is None
    assert pair_mean(matrix, list("aaaaa"), same=False) is None


def test_frames_are_the_files_matrices(make_run):
    folder = make_run(clients=4, rounds=8)
    found = heat(read_run(folder))
    assert found is not None
    assert found.rounds == list(range(1, 8))
    assert [each.name for each in found.maps] == ["weights", "similarity"]
    for position, round_ in enumerate(found.rounds):
        with np.load(folder / "relevance" / f"round-{round_:04d}.npz") as arrays:
            for each, factor in zip(found.maps, (100, 1), strict=True):
                shown = np.array(each.frames[position], dtype=float)  # None becomes nan
                assert np.isnan(np.diag(shown)).all()
                off = ~np.eye(4, dtype=bool)
                np.testing.assert_allclose(shown[off], arrays[each.name][off] * factor, atol=0.051)


def test_the_scale_is_of_what_is_possible_so_that_little_looks_little(make_run):
    found = heat(read_run(make_run(clients=5)))
    assert found is not None
    for each, most in zip(found.maps, (2 * 25.0, 1.0), strict=True):  # twice an even split; equal data
        values = [value for frame in each.frames for row in frame for value in row if value is not None]
        assert each.high == max(most, *values)
        assert each.low == min(0.0, *values)
        assert all(0.0 <= cell.level <= 1.0 for row in each.cells() for cell in row)


@pytest.mark.slow
def test_long_runs_are_thinned_but_keep_the_last_round(make_run):
    found = heat(read_run(make_run(clients=2, rounds=150)))
    assert found is not None
    assert found.rounds[-1] == 149
    assert len(found.rounds) <= 60
    assert {b - a for a, b in zip(found.rounds, found.rounds[1:], strict=False)} == {found.every}


def test_means_need_two_kinds_of_pairs(make_run):
    equal = heat(read_run(make_run("equal", models=("tiny-llama",))))
    mixed = heat(read_run(make_run("mixed")))
    assert equal is not None
    assert mixed is not None
    assert [bool(each.chart) for each in equal.maps] == [False, False]
    assert [bool(each.chart) for each in mixed.maps] == [True, True]


def test_weights_alone_are_enough(make_run):
    folder = make_run(clients=2, relevance=False)
    (folder / "relevance").mkdir()
    np.savez(folder / "relevance" / "round-0001.npz", weights=np.array([[0.0, 1.0], [1.0, np.nan]]))
    found = heat(read_run(folder))
    assert found is not None
    assert [each.name for each in found.maps] == ["weights"]
    assert found.maps[0].frames == [[[None, 100.0], [100.0, None]]]


@pytest.mark.parametrize("options", [{"relevance": False}, {"clients": 1}])
def test_without_matrices_or_others_there_is_no_section(make_run, options):
    assert heat(read_run(make_run(**options))) is None


def test_weights_near_an_even_split_are_called_so_and_are_all_of_a_middling_colour(make_run):
    folder = make_run(clients=4, relevance=False)
    (folder / "relevance").mkdir()
    weights = (np.full((4, 4), 1 / 3) + np.array([0.02, -0.01, 0.0, -0.01])) * (1 - np.eye(4))
    np.savez(folder / "relevance" / "round-0001.npz", weights=weights)
    (found,) = heat(read_run(folder)).maps
    assert "everybody learned about equally from everybody" in found.spread
    assert found.middle == "even split 33.3 %"
    levels = [cell.level for row in found.cells() for cell in row if cell.text]
    assert all(0.45 < level < 0.55 for level in levels)
