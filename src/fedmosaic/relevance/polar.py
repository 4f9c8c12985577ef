"""Lengths and directions of vectors, for any numbers that a computer holds: NaN, infinite, huge and tiny ones, too."""

from __future__ import annotations

import torch
from torch import Tensor


def polar(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Split each row into its length and its direction.

    A row with a value that is not a finite number counts as zero: its length is zero. Rows are scaled to a largest
    value of 1 before anything is squared, so that the squares of huge and tiny values neither overflow nor vanish.

    Args:
        rows: (N, k), k >= 1, floating point.

    Returns:
        Lengths (N, 1), infinite if the type cannot hold one, and directions (N, k) of length 1, or 0 where the length
        is zero; never NaN. In float32 or, if ``rows`` are, in float64.
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    tiny = torch.finfo(rows.dtype).tiny
    peaks = rows.abs().amax(1, keepdim=True)  # NaN where the row has one
    finite = peaks.isfinite()
    scaled = torch.where(finite, rows / peaks.clamp(min=tiny), 0.0)
    norms = scaled.norm(dim=1, keepdim=True)
    # What is scaled by ``tiny`` instead of its peak is shorter than ``tiny``; its length is right all the same.
    lengths = torch.where(finite, peaks.clamp(min=tiny) * norms, 0.0)
    return lengths, scaled / norms.clamp(min=tiny)
