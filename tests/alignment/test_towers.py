"""Shared coordinates of unlike towers, on features whose relation is known."""

import pytest
import torch

from fedmosaic.alignment.towers import agreement, paired_rows, shared_bases
from fedmosaic.errors import SettingsError


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width, seed=1):
    return torch.linalg.qr(draw(width, width, seed=seed)).Q


def features(rows=400, width=12, seed=0):
    """With a mean, and with less variance in each further direction."""
    return 0.5 + draw(rows, width, seed=seed) * torch.linspace(3, 0.3, width, dtype=torch.float64)


def test_a_rotated_and_rescaled_copy_of_a_tower_is_aligned_exactly():
    one = features()
    turn = rotation(12)
    rows = {"b": one, "a": 2.5 * one @ turn.t()}
    bases = shared_bases(rows, 5)
    shared = {name: each @ bases[name].double().t() for name, each in rows.items()}
    torch.testing.assert_close(shared["a"], 2.5 * shared["b"], atol=1e-5, rtol=1e-5)
    new = features(50, seed=7)
    assert agreement({"b": new, "a": new @ turn.t()}, bases) == pytest.approx(1, abs=1e-6)


def test_what_is_learned_in_one_tower_does_the_same_in_its_rotated_copy():
    """The oracle knows the rotation: the change of features in the copy has to be the rotated change."""
    one, turn = features(), rotation(12)
    bases = {name: basis.double() for name, basis in shared_bases({"a": one, "b": one @ turn.t()}, 6).items()}
    p, q = draw(6, 6, seed=3), draw(6, seed=4)
    change, turned = (
        (z @ bases[name].t() @ p.t() + q) @ bases[name] for name, z in (("a", one), ("b", one @ turn.t()))
    )
    torch.testing.assert_close(turned, change @ turn.t(), atol=1e-5, rtol=1e-5)


def test_three_towers_of_other_widths_share_what_they_have_in_common_only():
    common, own = draw(600, 4) * 2, {name: draw(600, 6, seed=seed) for seed, name in enumerate("abc", start=20)}
    rows = {
        name: torch.cat([common, private[:, : 2 * seed]], 1) @ rotation(4 + 2 * seed, seed)
        for seed, (name, private) in enumerate(own.items(), start=1)
    }
    bases = shared_bases(rows, 4)
    for name, basis in bases.items():
        assert basis.shape == (4, rows[name].shape[1])
        torch.testing.assert_close(basis @ basis.t(), torch.eye(4), atol=1e-5, rtol=0)
    assert agreement(rows, bases) > 0.99
    assert agreement(rows, {name: torch.eye(len(basis[0]))[:4] for name, basis in bases.items()}) < 0.5
    again = shared_bases(dict(reversed(rows.items())), 4)
    assert all(torch.equal(again[name], basis) for name, basis in bases.items())


def test_finer_grids_are_averaged_to_the_coarsest():
    coarse = draw(3, 4, 5)
    fine = coarse.reshape(3, 2, 2, 5).repeat_interleave(2, 1).repeat_interleave(2, 2).reshape(3, 16, 5)
    rows = paired_rows({"coarse": list(coarse), "fine": list(fine)})
    torch.testing.assert_close(rows["coarse"], rows["fine"])
    torch.testing.assert_close(rows["coarse"], coarse.reshape(12, 5))


def test_tokens_that_form_no_grid_are_averaged_by_picture():
    ragged = [draw(count, 5, seed=count) for count in (6, 4, 10)]
    rows = paired_rows({"ragged": ragged, "grid": list(draw(3, 4, 5))})
    assert {len(each) for each in rows.values()} == {3}
    torch.testing.assert_close(rows["ragged"][2], ragged[2].mean(0))


def test_a_rank_that_a_tower_does_not_have_is_refused():
    with pytest.raises(SettingsError, match=r"tower_rank=9, but tower small gives 400 features of width 8.*set 8"):
        shared_bases({"large": features(), "small": features(width=8)}, 9)
