"""Small linear images of a large gradient matrix; cosines between them stand for cosines between the gradients.

All are linear in the gradient and equal on all clients by a shared seed:

``projection``  TensorSketch (Pham & Pagh, KDD 2013), a structured random projection: the sketch of an outer product
                u v^T is the circular convolution of the count sketches of u and v, so neither the d_out x d_in gradient
                nor a projection matrix is ever formed. E <sketch(G), sketch(G')> = <G, G'>; cosines have an error of
                order 1/sqrt(size).
``subset``      the paper's: a random subset of the gradient's entries, the same ones on all clients.
``full``        the whole gradient.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from fedmosaic import seeding

SketchKind = Literal["projection", "subset", "full"]


class Sketch(Protocol):
    """A map from gradients, given as sums of outer products, to ``size`` numbers each."""

    size: int

    def __call__(self, left: Tensor, right: Tensor, rows: Tensor, count: int) -> Tensor:
        """Sketch ``count`` gradients at once.

        Args:
            left: (n, d_out) left factors.
            right: (n, d_in) right factors.
            rows: (n,) which gradient the n-th outer product belongs to.
            count: number of gradients.

        Returns:
            (count, size) sketches of G_c = sum over n with rows[n] = c of left[n] right[n]^T.
        """
        ...


def make_sketch(kind: SketchKind, *, d_out: int, d_in: int, size: int, ratio: float, seed: int) -> Sketch:
    """Build the sketch of a kind.

    Args:
        kind: see the module.
        d_out: length of the left factors (output gradients).
        d_in: length of the right factors (inputs).
        size: length of a ``projection``.
        ratio: share of the entries in a ``subset``.
        seed: equal on all clients of a run, or sketches cannot be compared.
    """
    assert kind in get_args(SketchKind)
    if kind == "projection":
        return TensorSketch(d_out=d_out, d_in=d_in, size=size, seed=seed)
    return EntrySketch(d_out=d_out, d_in=d_in, ratio=ratio if kind == "subset" else 1.0, seed=seed)


class TensorSketch:
    """The ``projection``.

    Args:
        d_out: length of the left factors.
        d_in: length of the right factors.
        size: length of the sketch.
        seed: of hashes and signs.
    """

    def __init__(self, *, d_out: int, d_in: int, size: int, seed: int) -> None:
        self.size = size
        random = seeding.generator(seed, "sketch", d_out, d_in, size)
        self._buckets = [torch.randint(size, (d,), generator=random) for d in (d_out, d_in)]
        self._signs = [torch.randint(2, (d,), generator=random).float() * 2 - 1 for d in (d_out, d_in)]

    def __call__(self, left: Tensor, right: Tensor, rows: Tensor, count: int) -> Tensor:
        """See :meth:`Sketch.__call__`."""
        spectrum = torch.fft.rfft(self._count(left, 0)) * torch.fft.rfft(self._count(right, 1))
        total = spectrum.new_zeros(count, spectrum.shape[1]).index_add_(0, rows, spectrum)
        sketches: Tensor = torch.fft.irfft(total, n=self.size)
        return sketches

    def _count(self, vectors: Tensor, side: int) -> Tensor:
        """Count sketch: (n, d) -> (n, size), each coordinate signed and added to its bucket."""
        buckets, signs = self._buckets[side].to(vectors.device), self._signs[side].to(vectors.device)
        return vectors.new_zeros(len(vectors), self.size).index_add_(1, buckets, vectors * signs)


class EntrySketch:
    """``subset`` and ``full``: entries of the gradient, scaled so that inner products are kept on average.

    Args:
        d_out: length of the left factors.
        d_in: length of the right factors.
        ratio: share of the entries that are kept, at least one entry.
        seed: of the choice.
    """

    def __init__(self, *, d_out: int, d_in: int, ratio: float, seed: int) -> None:
        entries = d_out * d_in
        self.size = max(1, round(ratio * entries))
        order = torch.randperm(entries, generator=seeding.generator(seed, "subset", d_out, d_in))
        self._kept = order[: self.size].sort().values if self.size < entries else torch.arange(entries)
        self._scale = (entries / self.size) ** 0.5

    def __call__(self, left: Tensor, right: Tensor, rows: Tensor, count: int) -> Tensor:
        """See :meth:`Sketch.__call__`; one gradient is formed at a time."""
        kept, sketches = self._kept.to(left.device), left.new_empty(count, self.size)
        for row in range(count):
            mine = rows == row
            sketches[row] = (left[mine].T @ right[mine]).flatten()[kept] * self._scale
        return sketches
