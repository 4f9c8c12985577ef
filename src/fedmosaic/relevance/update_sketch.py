"""A sketch of what training has changed in an adapter: its direction tells which task was learned.

Of a conventional layer with factors A, B before and A', B' after, what changes in the layer is

    B' A' - B A = [B', -B] [A'; A]

a sum of 2 r outer products, whichever of the many A and B with one product were uploaded. It is sketched without being
formed (:mod:`fedmosaic.relevance.sketches.projection`), and the sketches of all layers, with hashes of their own, are
added: inner products are those of all layers' changes together, on average. Tensors without a partner (P and Q of a
tower adapter, in coordinates that all clients share) count by their differences.

Whoever knows both adapters can compute it, so it tells a server nothing that their upload does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.relevance.sketches.projection import TensorSketch

_Factors = tuple[Tensor, Tensor]


def update_sketch(before: Mapping[str, Tensor], after: Mapping[str, Tensor], *, size: int, seed: int) -> Tensor:
    """Return the sketch of an update.

    Args:
        before: a slot's tensors by name.
        after: the same ones after training.
        size: length of the sketch.
        seed: equal on all clients of a run, or sketches cannot be compared.

    Returns:
        (size,) on the CPU, in float32.
    """
    total = torch.zeros(size)
    for place, (left, right) in enumerate(_changes(before, after)):
        hashes = seeding.derive(seed, "update sketch", place)
        sketch = TensorSketch(d_out=left.shape[1], d_in=right.shape[1], size=size, seed=hashes)
        total += sketch(left, right, torch.zeros(len(left), dtype=torch.long), 1)[0]
    return total


def _changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Iterator[_Factors]:
    """Yield factors (n, d_out) and (n, d_in) of each layer's change, in the order of the names."""
    old, new = ({name: tensor.detach().float().cpu() for name, tensor in each.items()} for each in (before, after))
    for name in sorted(new):
        if name.endswith(".A") and f"{name[:-1]}B" in new:
            partner = f"{name[:-1]}B"
            yield torch.cat([new[partner], -old[partner]], 1).T, torch.cat([new[name], old[name]])
        elif not (name.endswith(".B") and f"{name[:-1]}A" in new):
            change = new[name] - old[name]
            rows = change.reshape(len(change), -1) if change.ndim > 1 else change[None]
            yield torch.eye(len(rows)), rows
