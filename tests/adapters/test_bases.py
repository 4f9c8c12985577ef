import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.adapters.bases import colora_pair, lora_pair
from fedmosaic.adapters.placement import Target
from fedmosaic.errors import SettingsError


def target(inputs, outputs, layer=0):
    return Target(f"layers.{layer}.mlp.up", layer, 0, "up", inputs, outputs)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(0, 20), st.integers(0, 20), st.integers(0, 3))
def test_colora_bases_are_orthonormal(rank, more_in, more_out, seed):
    down, up = colora_pair(target(rank + more_in, rank + more_out), rank, seed=seed, architecture="a")
    assert down.shape == (rank, rank + more_in)
    assert up.shape == (rank + more_out, rank)
    torch.testing.assert_close(down @ down.t(), torch.eye(rank), atol=1e-5, rtol=0)
    torch.testing.assert_close(up.t() @ up, torch.eye(rank), atol=1e-5, rtol=0)


def test_theorem_1_the_update_space_has_r_squared_dimensions_and_keeps_the_norm():
    rank = 4
    down, up = (basis.double() for basis in colora_pair(target(9, 7), rank, seed=0, architecture="a"))
    assert torch.linalg.matrix_rank(torch.kron(down.t().contiguous(), up)) == rank**2
    p = torch.randn(rank, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close((up @ p @ down).norm(), p.norm(), atol=1e-6, rtol=1e-6)
    # vec(B P A) = (A^T kron B) vec(P), columns stacked
    torch.testing.assert_close((up @ p @ down).t().flatten(), torch.kron(down.t().contiguous(), up) @ p.t().flatten())


def test_lora_starts_kaiming_uniform_and_zero():
    down, up = lora_pair(target(400, 5), 64, seed=0, architecture="a")
    bound = 400**-0.5
    assert down.abs().max() <= bound
    assert down.abs().max() > 0.99 * bound
    assert abs(down.var().item() / (bound**2 / 3) - 1) < 0.05
    assert up.shape == (5, 64)
    assert not up.any()


@pytest.mark.parametrize("pair", [lora_pair, colora_pair])
def test_draws_depend_on_seed_architecture_and_place_only(pair):
    def draw(place, seed=0, architecture="a"):
        return pair(place, 3, seed=seed, architecture=architecture)[0]

    first = draw(target(9, 7))
    torch.manual_seed(123)
    assert torch.equal(first, draw(target(9, 7)))
    assert not torch.equal(first, draw(target(9, 7), seed=1))
    assert not torch.equal(first, draw(target(9, 7), architecture="b"))
    assert not torch.equal(first, draw(target(9, 7, layer=1)))


def test_a_rank_above_the_width_is_refused():
    with pytest.raises(SettingsError, match=r"rank=8 .*layers\.0\.mlp\.up is 9 -> 7.*at most 7"):
        colora_pair(target(9, 7), 8, seed=0, architecture="a")
