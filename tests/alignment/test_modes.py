import numpy as np
import pytest
import torch

from fedmosaic.alignment import MODES, InputsOnly, Joint, NoAlignment, Pivot, Published, find_mode
from fedmosaic.alignment.joint import covariance_without_mean
from fedmosaic.alignment.moments import JointMoments
from fedmosaic.alignment.stream import Basis
from fedmosaic.errors import SettingsError

RANK = 4


def random_bases(widths, seed=0):
    draw = torch.Generator().manual_seed(seed)

    def columns(width):
        return torch.linalg.qr(torch.randn(width, RANK, generator=draw, dtype=torch.float64)).Q

    return [Basis(columns(width).T, columns(width)) for width in widths]


def solve(mode, source, start, pivot=0):
    return mode.solve(source, {"module": start}, pivot)["module"]


def correlations(one, other):
    one, other = one - one.mean(0), other - other.mean(0)
    return (one * other).mean(0) / (one.std(0, correction=0) * other.std(0, correction=0))


def latents_of(rows, bases, *, side):
    """Latent inputs ``A x``, or effects ``B^T g``, of all positions in each architecture."""
    maps = [basis.A.T if side == "inputs" else basis.B for basis in bases]
    return [each.flatten(0, 1) @ m for each, m in zip(rows, maps, strict=True)]


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (1.0, 4.0, 0.3)], ids=["alike", "of other sizes"])
def test_joint_finds_the_planted_latents_exactly_where_features_are_turned_and_scaled(planted, sizes):
    world = planted(orthogonal=True, sizes=sizes)
    bases = solve(Joint(), world.source(), random_bases(world.widths))
    inputs, gradients = world.rows(200)
    for rows, side in ((inputs, "inputs"), (gradients, "outputs")):
        first, *others = latents_of(rows, bases, side=side)
        for other in others:
            torch.testing.assert_close(other, first, atol=1e-6 * float(first.norm()), rtol=0)


def test_joint_prefers_what_is_common_to_what_is_strong(planted):
    world = planted((14, 18, 16), 5, private=8, orthogonal=True)
    bases = solve(Joint(), world.source(), random_bases(world.widths))
    for basis, in_map, out_map in zip(bases, world.input_maps, world.output_maps, strict=True):
        private = in_map[:, world.latents :], out_map[:, world.latents :]
        assert float((basis.A @ private[0]).norm()) < 0.2 * float(basis.A.norm())
        assert float((basis.B.T @ private[1]).norm()) < 0.2 * float(basis.B.norm())


def sample_updates(inputs, gradients, bases):
    """Gradients with respect to P, sample by sample: (n, r * r) of each architecture."""
    return [
        torch.einsum("sto,or,sti,qi->srq", g, basis.B, x, basis.A).flatten(1)
        for x, g, basis in zip(inputs, gradients, bases, strict=True)
    ]


def likeness(one, other):
    return float((one * other).sum() / (one.norm() * other.norm()))


def test_joint_makes_updates_agree_where_features_are_skewed(planted):
    world = planted()
    start, source = random_bases(world.widths), world.source()
    inputs, gradients = world.rows(500)
    found = {}
    for mode in (NoAlignment(), Pivot(), Joint()):
        first, *others = sample_updates(inputs, gradients, solve(mode, source, start))
        found[mode.name] = min(likeness(first, other) for other in others)
    assert found["joint"] > max(found["none"], found["pivot"]) + 0.2


def test_rounds_of_joint_bring_updates_closer(planted):
    world = planted((14, 18, 16), 5, private=8)
    source, start = world.source(), random_bases(world.widths)
    inputs, gradients = world.rows(500)
    found = []
    for rounds in (1, 2):
        one, two, three = sample_updates(inputs, gradients, solve(Joint(rounds=rounds), source, start))
        found.append(likeness(one, two) + likeness(one, three) + likeness(two, three))
    assert found[1] > found[0]


def test_p_and_q_mean_the_same_function_after_joint(planted):
    world = planted(orthogonal=True, sizes=(1.0, 3.0, 0.5))
    inputs, gradients = world.rows(300)
    p, q = (
        torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        for shape in ((RANK, RANK), (RANK,))
    )

    def changes(bases):  # of each sample's loss, to first order, by the branch B (P A x + Q)
        return [
            ((x @ basis.A.T @ p.T + q) @ basis.B.T * g).sum((1, 2))
            for x, g, basis in zip(inputs, gradients, bases, strict=True)
        ]

    start = random_bases(world.widths)
    first, *others = changes(solve(Joint(), world.source(), start))
    for other in others:
        assert (other - first).norm() < 1e-5 * first.norm()
    apart = changes(start)
    assert (apart[1] - apart[0]).norm() > 0.5 * apart[0].norm()


def test_the_start_of_joint_leaves_the_mean_out():
    draw = torch.Generator().manual_seed(2)
    rows = [torch.randn(400, width, generator=draw, dtype=torch.float64) + 3 for width in (4, 6)]
    moments = JointMoments([4, 6])
    moments.add(rows)
    kept = []
    for each in rows:
        unit = each.mean(0) / each.mean(0).norm()
        kept.append(each - (each @ unit)[:, None] * unit)  # has no component along the mean
    expected = torch.cov(torch.cat(kept, 1).T, correction=0)
    torch.testing.assert_close(covariance_without_mean(moments), expected, atol=1e-10, rtol=1e-8)


def test_pivot_reproduces_the_pivots_latents_where_a_map_exists(planted):
    world = planted(orthogonal=True)
    source, start = world.source(), random_bases(world.widths)
    bases = solve(Pivot(ridge=1e-9), source, start)
    torch.testing.assert_close(bases[0].A, start[0].A)
    torch.testing.assert_close(bases[0].B, start[0].B)
    for view in (1, 2):
        latents, pivots = (source.inputs[v].flatten(0, 1) @ bases[v].A.T for v in (view, 0))
        torch.testing.assert_close(latents - latents.mean(0), pivots - pivots.mean(0), atol=1e-4, rtol=1e-4)
        expected = world.output_maps[view] @ world.output_maps[0].T @ start[0].B  # where the pivot's columns lead
        torch.testing.assert_close(bases[view].B, expected, atol=1e-4, rtol=1e-4)


def test_a_leaves_b_and_the_pivot_alone(planted):
    world = planted()
    start = random_bases(world.widths)
    bases = solve(InputsOnly(), world.source(), start, 1)
    assert all(torch.equal(basis.B, before.B) for basis, before in zip(bases, start, strict=True))
    assert torch.equal(bases[1].A, start[1].A)
    assert not torch.allclose(bases[0].A, start[0].A)


def sym_power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def test_published_reproduces_its_formula_written_out_in_output_space(planted):
    world = planted()
    source, start = world.source(n=40), random_bases(world.widths)
    inputs = [each.flatten(0, 1) for each in source.inputs]
    bases = solve(Published(), source, start)
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
    start = random_bases(world.widths)
    for basis, before in zip(solve(Published(), world.source(), start), start, strict=True):
        outside = basis.B - before.B @ (before.B.T @ basis.B)
        assert float(outside.norm()) < 1e-9 * float(basis.B.norm())


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
def test_bases_have_the_form_that_the_mode_names(planted, mode):
    world = planted()
    for basis in solve(mode, world.source(), random_bases(world.widths)):
        grams = basis.A @ basis.A.T, basis.B.T @ basis.B
        if mode.form == "scaled":
            grams = tuple(gram / gram.diagonal().mean() for gram in grams)
        if mode.form == "free":
            grams = grams[:1]
        for gram in grams:
            torch.testing.assert_close(gram, torch.eye(RANK, dtype=torch.float64))


def test_an_unknown_mode_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match=r"'joined'.*none, a, published, pivot, joint"):
        find_mode("joined")
