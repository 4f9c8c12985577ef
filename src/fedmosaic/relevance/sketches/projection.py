"""TensorSketch (Pham & Pagh, KDD 2013), a structured random projection.

The sketch of an outer product u v^T is the circular convolution of the count sketches of u and v, so neither the
d_out x d_in gradient nor a projection matrix is ever formed. E <sketch(G), sketch(G')> = <G, G'>; cosines have an error
of order 1/sqrt(size).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedmosaic import seeding


class TensorSketch:
    """The ``projection``.

    Args:
        d_out: length of the left factors.
        d_in: length of the right factors.
        size: length of the sketch.
        seed: of hashes and signs.
    """

    name = "projection"

    def __init__(self, *, d_out: int, d_in: int, size: int, seed: int) -> None:
        self.size = size
        random = seeding.generator(seed, "sketch", d_out, d_in, size)
        self._buckets = [torch.randint(size, (d,), generator=random) for d in (d_out, d_in)]
        self._signs = [torch.randint(2, (d,), generator=random).float() * 2 - 1 for d in (d_out, d_in)]

    @classmethod
    def make(cls, *, d_out: int, d_in: int, size: int, ratio: float, seed: int) -> TensorSketch:
        """See :func:`~fedmosaic.relevance.make_sketch`."""
        return cls(d_out=d_out, d_in=d_in, size=size, seed=seed)

    def __call__(self, left: Tensor, right: Tensor, rows: Tensor, count: int) -> Tensor:
        """See :class:`~fedmosaic.relevance.Sketch`."""
        spectrum = torch.fft.rfft(self._count(left, 0)) * torch.fft.rfft(self._count(right, 1))
        total = spectrum.new_zeros(count, spectrum.shape[1]).index_add_(0, rows, spectrum)
        sketches: Tensor = torch.fft.irfft(total, n=self.size)
        return sketches

    def _count(self, vectors: Tensor, side: int) -> Tensor:
        """Count sketch: (n, d) -> (n, size), each coordinate signed and added to its bucket."""
        buckets, signs = self._buckets[side].to(vectors.device), self._signs[side].to(vectors.device)
        return vectors.new_zeros(len(vectors), self.size).index_add_(1, buckets, vectors * signs)
