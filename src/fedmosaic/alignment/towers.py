"""Shared coordinates of unlike vision towers, for tower adapters: Procrustes on features of the same pictures.

Tower k gets A_k (r, d_k) with orthonormal rows, such that the A_k z_k of one picture agree: together they maximise

    sum over k < l of  E[(A_k z_k) . (A_l z_l)]

with each tower's features scaled to mean square 1. Second moments are not centred: what all pictures have in common is
a direction like others, and has to be the same one in all towers. If one tower is a rotation of another, z_2 = R z_1,
then A_2 z_2 = A_1 z_1 exactly, and P and Q learned with one do the same with the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fedmosaic.errors import SettingsError

_SWEEPS = 100


def paired_rows(features: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Return features of the same parts of the same pictures, though towers give other numbers of tokens.

    Where every picture's tokens form a square grid, grids are averaged down to the coarsest one; else, as where a model
    cuts pictures into crops, all tokens of a picture are averaged.

    Args:
        features: tower -> (T, d) of each picture, the same pictures in the same order.

    Returns:
        tower -> (N, d) in float64; row i of all towers is of the same part of a picture.
    """
    counts = [len(tokens) for pictures in features.values() for tokens in pictures]
    sides = [math.isqrt(count) for count in counts]
    square = all(side * side == count for side, count in zip(sides, counts, strict=True))
    side = min(sides) if square else 1
    return {
        tower: torch.cat([_pooled(tokens.double(), side) for tokens in pictures])
        for tower, pictures in features.items()
    }


def _pooled(tokens: Tensor, side: int) -> Tensor:
    """Average (T, d) tokens to (side * side, d)."""
    if side == 1:
        return tokens.mean(0, keepdim=True)
    now = math.isqrt(len(tokens))
    grid = tokens.t().reshape(1, -1, now, now)
    return F.adaptive_avg_pool2d(grid, side).reshape(tokens.shape[1], -1).t()


def shared_bases(rows: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Return each tower's A, (r, d) in float32 with orthonormal rows.

    Args:
        rows: tower -> (N, d) in float64, as :func:`paired_rows` returns them.
        rank: r.

    Raises:
        SettingsError: a tower's features are narrower than the rank, or there are fewer rows.
    """
    narrow = min(rows, key=lambda tower: rows[tower].shape[1])
    most = min(rows[narrow].shape[1], len(rows[narrow]))
    if rank > most:
        raise SettingsError(
            f"adapter.tower_rank={rank}, but tower {narrow} gives {len(rows[narrow])} features of width "
            f"{rows[narrow].shape[1]} to align with the others; set {most} or less"
        )
    towers = sorted(rows)  # the order in which clients are listed makes no difference
    scaled = {tower: rows[tower] / rows[tower].square().sum(1).mean().sqrt() for tower in towers}
    first = towers[0]
    others = torch.cat([scaled[tower] for tower in towers[1:]], dim=1)
    bases = {first: torch.linalg.svd(scaled[first].t() @ others).U[:, :rank].t()}
    for tower in towers[1:]:
        bases[tower] = _orthonormal(bases[first] @ scaled[first].t() @ scaled[tower])
    for _ in range(_SWEEPS if len(towers) > 2 else 0):  # of two towers this is the optimum already
        for tower in towers:
            wanted = sum((scaled[other] @ bases[other].t() for other in towers if other != tower), torch.zeros(()))
            bases[tower] = _orthonormal(wanted.t() @ scaled[tower])
    return {tower: basis.float().contiguous() for tower, basis in bases.items()}


def _orthonormal(matrix: Tensor) -> Tensor:
    """Return the matrix with orthonormal rows that is nearest to one of shape (r, d): its polar factor."""
    parts = torch.linalg.svd(matrix, full_matrices=False)
    nearest: Tensor = parts.U @ parts.Vh
    return nearest


def agreement(rows: Mapping[str, Tensor], bases: Mapping[str, Tensor]) -> float:
    """Return how well towers agree in shared coordinates: the mean cosine of their A z over rows and pairs of towers.

    Args:
        rows: tower -> (N, d), best of pictures that the bases were not made of.
        bases: tower -> A (r, d).

    Returns:
        1 if all are equal but for a factor, about 0 if they have nothing in common.
    """
    shared = [rows[tower].double() @ bases[tower].double().t() for tower in sorted(bases)]
    pairs = [(one, other) for index, one in enumerate(shared) for other in shared[index + 1 :]]
    return float(torch.stack([F.cosine_similarity(one, other).mean() for one, other in pairs]).mean())
