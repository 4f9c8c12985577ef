"""Small linear images of a large gradient matrix; cosines between them stand for cosines between the gradients.

All are linear in the gradient and equal on all clients by a shared seed. Each kind is a file in ``relevance.sketches``.
"""

from __future__ import annotations

from typing import Annotated, Protocol

from torch import Tensor

from fedmosaic.config.validation import registered
from fedmosaic.registry import SKETCHES

SketchKind = Annotated[str, registered(SKETCHES)]


class Sketch(Protocol):
    """A map from gradients, given as sums of outer products, to ``size`` numbers each.

    A registered class has a ``name`` and a class method ``make`` with the keyword arguments of :func:`make_sketch`.
    """

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
    """Make the sketch of a kind.

    Args:
        kind: its name.
        d_out: length of the left factors (output gradients).
        d_in: length of the right factors (inputs).
        size: length of a sketch whose length is free, such as ``projection``.
        ratio: share of the gradient's entries in a sketch that is made of them, such as ``subset``.
        seed: equal on all clients of a run, or sketches cannot be compared.

    Returns:
        The sketch; equal arguments give equal sketches.

    Raises:
        SettingsError: there is no such kind.
    """
    made: Sketch = SKETCHES.load(kind).make(d_out=d_out, d_in=d_in, size=size, ratio=ratio, seed=seed)
    return made
