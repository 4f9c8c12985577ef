"""From the sketches of single samples to the one vector of a round that may leave the client.

Clipping bounds what one sample can do to the sum; Gaussian noise in proportion hides whether it was there
(:mod:`fedmosaic.relevance.privacy` says how well). A sketch with a value that is NaN or infinite (of a sample on which
the probe overflows) counts as zero, as if the sample said nothing. Sums are taken in float64. The noise is a function
of a secret key, the round and, where the key is one client's own, the samples: a message that the server repeats is
answered with the same vector, so that noise cannot be averaged away.
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
        count: the expected number of rows, not the number found, which would depend on single samples.
        key: of the noise.

    Returns:
        (size,) in float32.
    """
    lengths, directions = polar(sketches.double())
    total = (directions * lengths.clamp(max=clip)).sum(0)
    if noise_multiplier:
        total = total + noise_multiplier * clip * gaussian(key, sketches.shape[1])
    mean: Tensor = (total / count).float()
    return mean


def unclipped_mean(sketches: Tensor, *, noise: float, key: bytes) -> Tensor:
    """Return the mean of rows that each got Gaussian noise, as in the paper.

    Nothing bounds a row, so this guarantees nothing, however large the noise. Rows that are not finite count as zero.

    Args:
        sketches: (n, size), n >= 1.
        noise: standard deviation on each row.
        key: of the noise.

    Returns:
        (size,) in float32.
    """
    finite = sketches.isfinite().all(1, keepdim=True)
    mean = torch.where(finite, sketches.double(), 0.0).mean(0)
    noisy: Tensor = (mean + noise / math.sqrt(len(sketches)) * gaussian(key, sketches.shape[1])).float()
    return noisy


def gaussian(key: bytes, size: int) -> Tensor:
    """Return standard normal numbers that cannot be told from random ones without the key (SHAKE-256).

    Args:
        key: of the noise; equal keys give equal numbers.
        size: how many.

    Returns:
        (size,) in float32.
    """
    normal: Tensor = torch.from_numpy(ndtri(_uniform(key, size))).float()
    return normal


def poisson_sample(key: bytes, count: int, rate: float) -> list[int]:
    """Return the indices in a Poisson sample: each is in it with the same probability, independently.

    Args:
        key: of the choice; equal keys give equal samples.
        count: the number of candidates.
        rate: the probability.

    Returns:
        Indices below ``count``, ascending.
    """
    return [int(i) for i in np.flatnonzero(_uniform(key, count) < rate)]


def subkey(key: bytes, *purpose: object) -> bytes:
    """Return the key of one purpose, e.g. of one round's noise; it reveals nothing about the others.

    Args:
        key: the secret.
        purpose: names the purpose; parts are written as text.

    Returns:
        32 bytes.
    """
    return hashlib.blake2b("\x1f".join(map(str, purpose)).encode(), key=key[:64], digest_size=32).digest()


def _uniform(key: bytes, size: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Numbers in the open interval (0, 1) in steps of 2^-52."""
    bits = np.frombuffer(hashlib.shake_256(key).digest(8 * size), dtype="<u8") >> np.uint64(12)
    return (bits.astype(np.float64) + 0.5) / 2.0**52
