"""Splitting samples so that the two parts share no content."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import TypeVar

import numpy as np

from fedmosaic.seeding import rng

T = TypeVar("T")


def split_disjoint(
    samples: Sequence[T], keys: Sequence[Collection[Hashable]], share: float
) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """Split off about ``share`` of the samples so that no key occurs in both parts; deterministic.

    Args:
        samples: any.
        keys: for each sample what it must not share with one of the other part: its conversation, its images, its text.
        share: the largest share to split off, 0 to 1.

    Returns:
        The larger part and the part split off (empty if the smallest connected group is larger than ``share``).
    """
    clusters: dict[int, list[int]] = {}
    for i, label in enumerate(_labels(keys)):
        clusters.setdefault(label, []).append(i)
    members = list(clusters.values())
    cut: set[int] = set()
    for i in rng(0, "validation").permutation(len(members)):
        if len(cut) + len(members[int(i)]) <= share * len(samples):
            cut.update(members[int(i)])
    kept = tuple(sample for i, sample in enumerate(samples) if i not in cut)
    return kept, tuple(sample for i, sample in enumerate(samples) if i in cut)


def _labels(keys: Sequence[Collection[Hashable]]) -> list[int]:
    """Number the samples so that those which share a key, directly or through others, have the same number."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - takes a moment to import, needed for published data only
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    nodes: dict[Hashable, int] = {}
    edges = [(i, nodes.setdefault(key, len(keys) + len(nodes))) for i, own in enumerate(keys) for key in own]
    size = len(keys) + len(nodes)
    rows, columns = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (rows, columns)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    return [int(label) for label in labels[: len(keys)]]
