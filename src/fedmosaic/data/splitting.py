"""Cutting samples in two so that nothing of one piece is known from the other."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import TypeVar

import numpy as np

from fedmosaic.seeding import rng

T = TypeVar("T")


def split_apart(
    samples: Sequence[T], traces: Sequence[Collection[Hashable]], share: float
) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """Cut about ``share`` of the samples off so that no trace stands in both pieces; the same cut every time.

    Args:
        samples: any.
        traces: for each sample what it must not share with one of the other piece: its talk, its images, its text.
        share: how much to cut off at most.

    Returns:
        The larger piece and the piece cut off (empty if all that hang together are more than ``share``).
    """
    clusters: dict[int, list[int]] = {}
    for i, label in enumerate(_labels(traces)):
        clusters.setdefault(label, []).append(i)
    members = list(clusters.values())
    cut: set[int] = set()
    for i in rng(0, "validation").permutation(len(members)):
        if len(cut) + len(members[int(i)]) <= share * len(samples):
            cut.update(members[int(i)])
    kept = tuple(sample for i, sample in enumerate(samples) if i not in cut)
    return kept, tuple(sample for i, sample in enumerate(samples) if i in cut)


def _labels(traces: Sequence[Collection[Hashable]]) -> list[int]:
    """Number the samples so that those which share a trace, directly or through others, have the same number."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - takes a moment to import, needed for published data only
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    nodes: dict[Hashable, int] = {}
    edges = [(i, nodes.setdefault(trace, len(traces) + len(nodes))) for i, own in enumerate(traces) for trace in own]
    size = len(traces) + len(nodes)
    rows, columns = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (rows, columns)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    return [int(label) for label in labels[: len(traces)]]
