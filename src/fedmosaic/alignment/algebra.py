"""The closed forms behind alignment: roots, nearest orthonormal matrices, ridge regression, generalised CCA."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from scipy.linalg import eigh
from torch import Tensor


def power(matrix: Tensor, exponent: float, *, ridge: float = 0.0) -> Tensor:
    """Return a power of a symmetric positive matrix (d, d).

    Args:
        matrix: (d, d); its eigenvalues are raised to the power; those below 1e-12 of the largest count as that much.
        exponent: e.g. -0.5.
        ridge: added to the diagonal first, in units of the diagonal's mean.
    """
    values, vectors = torch.linalg.eigh(matrix)
    values = values + ridge * matrix.diagonal().mean()
    values = values.clamp(min=float(values[-1].clamp(min=1e-300)) * 1e-12)
    result: Tensor = (vectors * values**exponent) @ vectors.T
    return result


def nearest_orthonormal(matrix: Tensor) -> Tensor:
    """Return the nearest matrix with orthonormal rows (if wide) or columns (if tall).

    Args:
        matrix: (m, n), finite.

    Returns:
        (m, n): U V^T of its singular value decomposition U S V^T.
    """
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest: Tensor = left @ right
    return nearest


def ridge_map(source: Tensor, cross: Tensor, *, ridge: float) -> Tensor:
    """Return M (targets, features) with ``target ≈ M source`` in least squares.

    Args:
        source: (features, features) covariance of the source.
        cross: (features, targets) covariance between source and target.
        ridge: in units of the mean variance of the source.
    """
    strength = ridge * source.diagonal().mean()
    regular = source + strength * torch.eye(len(source), dtype=source.dtype)
    solution: Tensor = torch.linalg.solve(regular, cross)
    return solution.T


def maxvar(joint: Tensor, widths: Sequence[int], rank: int, *, ridge: float) -> list[Tensor]:
    """Generalised CCA (MAXVAR; Kettenring 1971): directions of several views whose values agree in all of them.

    With D the block diagonal of the joint covariance C (plus the ridge), the top generalised eigenvectors
    ``C w = λ D w`` are the best rank-r account of all whitened views together. View m is mapped by its part of them;
    each row is scaled so that its values have variance 1 in view m, and signed so that its first view's largest weight
    is positive.

    Args:
        joint: (total, total) covariance of the concatenated views.
        widths: number of features of each view.
        rank: number of directions.
        ridge: in units of each view's mean variance. Small: correlation alone counts (CCA); large: so does how much a
            direction varies (joint principal components).

    Returns:
        W (rank, width) of each view, the most common direction first.
    """
    parts = [slice(end - width, end) for end, width in zip(accumulate(widths), widths, strict=True)]
    own = [joint[part, part] for part in parts]
    floors = [max(ridge, 1e-12) * max(float(matrix.diagonal().mean()), 1e-300) for matrix in own]
    regular: Tensor = torch.block_diag(  # type: ignore[no-untyped-call]
        *(
            matrix + floor * torch.eye(len(matrix), dtype=matrix.dtype)
            for matrix, floor in zip(own, floors, strict=True)
        )
    )
    total = len(joint)
    _, vectors = eigh(joint.numpy(), regular.numpy(), subset_by_index=(total - rank, total - 1))
    top = torch.from_numpy(vectors).flip(1)
    largest = top[: widths[0]].abs().argmax(0)
    top = top * top[largest, torch.arange(rank)].sign()
    return [_unit_variance(top[part].T, matrix) for part, matrix in zip(parts, own, strict=True)]


def _unit_variance(weights: Tensor, covariance: Tensor) -> Tensor:
    variance = ((weights @ covariance) * weights).sum(1)
    floor = float(covariance.diagonal().mean()) * 1e-12
    return weights / variance.clamp(min=floor).sqrt()[:, None]
