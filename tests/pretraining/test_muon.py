import pytest
import torch

from fedmosaic.pretraining.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_singular_values_come_close_to_one(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_orthogonalising_keeps_the_singular_vectors():
    u, _, v = torch.linalg.svd(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    matrix = u @ torch.diag(torch.tensor([3.0, 2.5, 2.0, 1.5, 1.2, 1.0])) @ v
    rotated = u.T @ orthogonalise(matrix[None])[0] @ v.T
    assert (rotated - torch.diag(rotated.diagonal())).abs().max() < 1e-4


def test_a_stack_is_handled_like_single_matrices():
    matrices = torch.randn(4, 10, 5, generator=torch.Generator().manual_seed(2))
    single = torch.cat([orthogonalise(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(orthogonalise(matrices), single)


def test_muon_solves_a_least_squares_problem():
    rng = torch.Generator().manual_seed(3)
    x, target = torch.randn(64, 12, generator=rng), torch.randn(5, 12, generator=rng)
    weight = torch.nn.Parameter(torch.zeros(5, 12))
    optimiser = Muon([weight], lr=0.1, weight_decay=0.0)
    losses = []
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        loss = (x @ (weight - target).T).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 1e-3 * losses[0]


def test_weight_decay_shrinks_and_parameters_without_gradient_stay():
    used, idle = torch.nn.Parameter(torch.eye(4)), torch.nn.Parameter(torch.eye(4))
    optimiser = Muon([used, idle], lr=0.5, weight_decay=0.1)
    used.grad = torch.zeros(4, 4)
    optimiser.step()
    torch.testing.assert_close(used.detach(), 0.95 * torch.eye(4))
    assert torch.equal(idle.detach(), torch.eye(4))
