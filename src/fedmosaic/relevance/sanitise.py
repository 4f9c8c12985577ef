"""From the sketches of single samples to the one vector of a round that may leave the client.

Clipping bounds what one sample can do to the sum; Gaussian noise in proportion hides whether it was there
(:mod:`fedmosaic.relevance.privacy` says how well). A sketch with a value that is NaN or infinite (of a sample on which
the probe overflows) counts as zero, as if the sample said nothing. Sums are taken in float64. The noise is a function
of a secret key and the round: a message that the server repeats is answered with the same vector, so that noise cannot
be averaged away.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from fedmosaic.relevance.polar import polar


def clipped_mean(sketches: Tensor, *, clip: float, noise_multiplier: float, count: float, key: bytes) -> Tensor:
    """Return (sum of clipped rows + N(0, (noise_multiplier * clip)^2 I)) / count.

    Args:
        sketches: (n, size), n >= 0.
        clip: largest norm of a row; longer ones are scaled down to it, however long, and rows that are not finite
            count as zero.
        noise_multiplier: standard deviation of the noise in units of ``clip``; 0: none.
        count: the number of rows that was to be expected, not the one found, which would tell of single samples.
        key: of the noise.
    """
    lengths, directions = polar(sketches.double())
    total = (directions * lengths.clamp(max=clip)).sum(0)
    if noise_multiplier:
        total = total + noise_multiplier * clip * gaussian(key, sketches.shape[1])
    mean: Tensor = (total / count).float()
    return mean


def unclipped_mean(sketches: Tensor, *, noise: float, key: bytes) -> Tensor:
    """Return the mean of rows that each got Gaussian noise of standard deviation ``noise``, as in the paper.

    Nothing bounds a row, so that this is no guarantee for anyone, however large the noise. Rows that are not finite
    count as zero.
    """
    finite = sketches.isfinite().all(1, keepdim=True)
    mean = torch.where(finite, sketches.double(), 0.0).mean(0)
    noisy: Tensor = (mean + noise / math.sqrt(len(sketches)) * gaussian(key, sketches.shape[1])).float()
    return noisy


def gaussian(key: bytes, size: int) -> Tensor:
    """Return ``size`` standard normal numbers that only who knows the key can tell from random ones (SHAKE-256)."""
    normal: Tensor = torch.from_numpy(ndtri(_uniform(key, size))).float()
    return normal


def chosen(key: bytes, count: int, rate: float) -> list[int]:
    """Return which of ``count`` samples a Poisson sample of this rate holds: each with probability ``rate``."""
    return [int(i) for i in np.flatnonzero(_uniform(key, count) < rate)]


def subkey(key: bytes, *purpose: object) -> bytes:
    """Return the key of one purpose, e.g. of one round's noise; it says nothing about the others."""
    return hashlib.blake2b("\x1f".join(map(str, purpose)).encode(), key=key[:64], digest_size=32).digest()


def _uniform(key: bytes, size: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Numbers in the open interval (0, 1) in steps of 2^-52."""
    bits = np.frombuffer(hashlib.shake_256(key).digest(8 * size), dtype="<u8") >> np.uint64(12)
    return (bits.astype(np.float64) + 0.5) / 2.0**52
