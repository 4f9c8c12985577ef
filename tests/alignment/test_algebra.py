import numpy as np
import torch

from fedmosaic.alignment.algebra import maxvar, nearest_orthonormal, power, ridge_map


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_powers_of_a_covariance_undo_each_other():
    x = random(50, 6)
    matrix = x.T @ x
    torch.testing.assert_close(power(matrix, -0.5) @ matrix @ power(matrix, -0.5), torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(power(matrix, 1.0, ridge=0.5), matrix + 0.5 * matrix.diagonal().mean() * torch.eye(6))


def test_a_singular_matrix_has_a_finite_inverse_root():
    x = random(3, 6)
    assert power(x.T @ x, -0.5).isfinite().all()


def test_nearest_orthonormal_is_no_farther_than_others_and_keeps_what_is_orthonormal():
    wide = random(4, 9)
    nearest = nearest_orthonormal(wide)
    torch.testing.assert_close(nearest @ nearest.T, torch.eye(4, dtype=torch.float64))
    for seed in range(20):
        other = torch.linalg.qr(random(9, 4, seed=seed)).Q.T
        assert (wide - nearest).norm() <= (wide - other).norm()
    torch.testing.assert_close(nearest_orthonormal(nearest.T), nearest.T)


def test_ridge_map_is_least_squares_on_the_augmented_system():
    x, y = random(40, 5), random(40, 3, seed=1)
    covariance, cross = x.T @ x / 40, x.T @ y / 40
    strength = 0.3 * covariance.diagonal().mean()
    augmented = np.vstack([x.numpy() / 40**0.5, float(strength) ** 0.5 * np.eye(5)])
    targets = np.vstack([y.numpy() / 40**0.5, np.zeros((5, 3))])
    expected = np.linalg.lstsq(augmented, targets, rcond=None)[0].T
    np.testing.assert_allclose(ridge_map(covariance, cross, ridge=0.3).numpy(), expected, atol=1e-10)


def test_maxvar_of_two_views_is_canonical_correlation_analysis():
    z = random(3000, 3)
    x = torch.cat([z + 0.5 * random(3000, 3, seed=1), random(3000, 2, seed=2)], 1)
    y = torch.cat([random(3000, 3, seed=3), z + 0.7 * random(3000, 3, seed=4)], 1)
    rows = torch.cat([x, y], 1)
    rows = rows - rows.mean(0)
    joint = rows.T @ rows / len(rows)
    first, second = maxvar(joint, [5, 6], 3, ridge=0.0)
    u, v = rows[:, :5] @ first.T, rows[:, 5:] @ second.T
    found = (u * v).mean(0)  # both have variance 1
    qx, qy = (np.linalg.qr(each.numpy())[0] for each in (rows[:, :5], rows[:, 5:]))
    canonical = np.linalg.svd(qx.T @ qy, compute_uv=False)[:3]
    np.testing.assert_allclose(found.numpy(), canonical, atol=1e-9)
    np.testing.assert_allclose((u**2).mean(0).numpy(), 1, atol=1e-9)


def test_a_large_ridge_prefers_directions_that_vary_much():
    strong, weak = 10 * random(5000, 1), random(5000, 1, seed=1)
    x = torch.cat([strong + 3 * random(5000, 1, seed=2), weak], 1)  # the weak one agrees exactly, the strong about
    y = torch.cat([strong + 3 * random(5000, 1, seed=3), weak], 1)
    rows = torch.cat([x, y], 1)
    joint = rows.T @ rows / len(rows)
    assert maxvar(joint, [2, 2], 1, ridge=1e-6)[0].abs().argmax() == 1
    assert maxvar(joint, [2, 2], 1, ridge=1.0)[0].abs().argmax() == 0
