import numpy as np
import pytest
import torch

from fedmosaic.adapters.alignment.modes import MODES, Basis, InputsOnly, Joint, Pivot, Published, find_mode
from fedmosaic.adapters.alignment.moments import JointMoments
from fedmosaic.errors import SettingsError

RANK = 4


def random_bases(widths, seed=0):
    draw = torch.Generator().manual_seed(seed)

    def columns(width):
        return torch.linalg.qr(torch.randn(width, RANK, generator=draw, dtype=torch.float64)).Q

    return [Basis(columns(width).T, columns(width)) for width in widths]


def moments_of(planted, n=2000):
    inputs, gradients = planted.rows(n)
    found = {"inputs": JointMoments(planted.widths), "gradients": JointMoments(planted.widths)}
    found["inputs"].add(inputs)
    found["gradients"].add(gradients)
    found["outputs"] = found["gradients"]
    return found, inputs, gradients


def correlations(one, other):
    one, other = one - one.mean(0), other - other.mean(0)
    return (one * other).mean(0) / (one.std(0, correction=0) * other.std(0, correction=0))


@pytest.mark.parametrize("orthonormal", [False, True])
def test_joint_finds_the_planted_latents_on_data_it_has_not_seen(planted, orthonormal):
    world = planted(orthogonal=orthonormal)
    moments, *_ = moments_of(world)
    bases = Joint(orthonormal=orthonormal, ridge=1e-9, gradient_ridge=1e-9).solve(
        moments, random_bases(world.widths), 0
    )
    inputs, gradients = world.rows(500)
    for view in (1, 2):
        latents = [x @ basis.A.T for x, basis in zip(inputs, bases, strict=True)]
        effects = [g @ basis.B for g, basis in zip(gradients, bases, strict=True)]
        assert correlations(latents[0], latents[view]).min() > 0.999
        assert correlations(effects[0], effects[view]).min() > 0.999


def test_p_and_q_mean_the_same_function_after_joint(planted):
    world = planted()
    moments, *_ = moments_of(world)
    bases = Joint(orthonormal=False, ridge=1e-9, gradient_ridge=1e-9).solve(moments, random_bases(world.widths), 0)
    inputs, gradients = world.rows(300)
    p, q = (
        torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        for shape in ((RANK, RANK), (RANK,))
    )
    changes = [  # of the loss, to first order, by the branch B (P A x + Q)
        ((x @ basis.A.T @ p.T + q) @ basis.B.T * g).sum(1) for x, g, basis in zip(inputs, gradients, bases, strict=True)
    ]
    for change in changes[1:]:
        assert (change - changes[0]).norm() < 0.05 * changes[0].norm()
    unaligned = random_bases(world.widths)
    apart = [
        ((x @ basis.A.T @ p.T + q) @ basis.B.T * g).sum(1)
        for x, g, basis in zip(inputs, gradients, unaligned, strict=True)
    ]
    assert (apart[1] - apart[0]).norm() > 0.5 * apart[0].norm()


def test_joint_latent_inputs_are_zero_on_average(planted):
    world = planted()
    moments, inputs, _ = moments_of(world)
    for x, basis in zip(inputs, Joint().solve(moments, random_bases(world.widths), 0), strict=True):
        assert float((basis.A @ x.mean(0)).abs().max()) < 1e-6 * float(x.mean(0).norm())


def test_pivot_reproduces_the_pivots_latents_where_a_map_exists(planted):
    world = planted(orthogonal=True)
    moments, inputs, _ = moments_of(world)
    start = random_bases(world.widths)
    bases = Pivot(ridge=1e-9).solve(moments, start, 0)
    torch.testing.assert_close(bases[0].A, start[0].A)
    torch.testing.assert_close(bases[0].B, start[0].B)
    for view in (1, 2):
        latents, pivots = inputs[view] @ bases[view].A.T, inputs[0] @ bases[0].A.T
        torch.testing.assert_close(latents - latents.mean(0), pivots - pivots.mean(0), atol=1e-4, rtol=1e-4)
        expected = world.output_maps[view] @ world.output_maps[0].T @ start[0].B  # where the pivot's columns lead
        torch.testing.assert_close(bases[view].B, expected, atol=1e-4, rtol=1e-4)


def test_a_leaves_b_and_the_pivot_alone(planted):
    world = planted()
    moments, *_ = moments_of(world)
    start = random_bases(world.widths)
    bases = InputsOnly().solve(moments, start, 1)
    assert all(torch.equal(basis.B, before.B) for basis, before in zip(bases, start, strict=True))
    assert torch.equal(bases[1].A, start[1].A)
    assert not torch.allclose(bases[0].A, start[0].A)


def sym_power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def test_published_reproduces_its_formula_written_out_in_output_space(planted):
    world = planted()
    moments, inputs, _ = moments_of(world, n=100)
    start = random_bases(world.widths)
    bases = Published().solve(moments, start, 0)
    x1 = (inputs[0] - inputs[0].mean(0)).numpy() @ bases[0].A.T.numpy() @ start[0].B.T.numpy()
    x3 = (inputs[2] - inputs[2].mean(0)).numpy() @ bases[2].A.T.numpy() @ start[2].B.T.numpy()
    s11 = x1.T @ x1 + 1e-4 * np.eye(x1.shape[1])
    s33 = x3.T @ x3 + 1e-4 * np.eye(x3.shape[1])
    u, _, vt = np.linalg.svd(sym_power(s33, -0.5) @ (x3.T @ x1) @ sym_power(s11, -0.5), full_matrices=False)
    u, vt = u[:, :RANK], vt[:RANK]  # the rest is noise: both sides have rank r
    expected = sym_power(s33, 0.5) @ u @ vt @ sym_power(s11, -0.5) @ start[0].B.numpy()
    np.testing.assert_allclose(bases[2].B.numpy(), expected, atol=1e-5)


def test_published_b_never_leaves_its_random_span(planted):
    world = planted()
    moments, *_ = moments_of(world)
    start = random_bases(world.widths)
    for basis, before in zip(Published().solve(moments, start, 0), start, strict=True):
        outside = basis.B - before.B @ (before.B.T @ basis.B)
        assert float(outside.norm()) < 1e-9 * float(basis.B.norm())


@pytest.mark.parametrize("mode", [mode for mode in MODES.values() if mode.orthonormal], ids=lambda mode: mode.name)
def test_orthonormal_modes_are_orthonormal(planted, mode):
    world = planted()
    moments, *_ = moments_of(world)
    for basis in mode.solve(moments, random_bases(world.widths), 0):
        torch.testing.assert_close(basis.A @ basis.A.T, torch.eye(RANK, dtype=torch.float64))
        torch.testing.assert_close(basis.B.T @ basis.B, torch.eye(RANK, dtype=torch.float64))


def test_an_unknown_mode_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match=r"'joined'.*none, a, published, pivot, joint"):
        find_mode("joined")
