"""What each client receives of all proxies: their mean, or a mixture by relevance.

    w_ij = (1 - c) / N + c * (v                                     for j = i
                              (1 - v) softmax_{j != i}(S_ij / tau)) for j != i

N clients, c the share of relevance, v a client's own weight (1/N by default: then the mean is what is left for large
tau), S the similarity of their tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fedmosaic.adapters import is_of_proxy
from fedmosaic.methods.base import Aggregation, ServerState
from fedmosaic.methods.mixtures import (
    MOST_CLIENTS_IN_A_MATRIX,
    InMemoryMixtures,
    Mixtures,
    too_large_for_memory,
)
from fedmosaic.methods.upload_memory import is_kept
from fedmosaic.methods.uploads import Uploads
from fedmosaic.relevance import relevance_weights

SimilarityOf = Callable[[Tensor], Tensor]
"""Gives the similarity (M, N) of some clients (M,), which are rows of all N, to all."""


@dataclass(frozen=True, kw_only=True)
class RelevanceShare:
    """From similarities to the weights of a mixture that has the client itself in it.

    Attributes:
        temperature: tau > 0.
        own: v; None: 1/N.
        relevance: c.
    """

    temperature: float
    own: float | None = None
    relevance: float = 1.0

    def weights(self, similarity: Tensor, itself: Tensor, clients: int) -> Tensor:
        """Return each client's weights of all proxies.

        Args:
            similarity: (M, N), or (M, N + K) with K kept uploads, which are weighed by relevance only.
            itself: (M,) the column that is the row's own client.
            clients: N.

        Returns:
            Of the same shape, non-negative; rows sum to 1.
        """
        own = 1 / clients if self.own is None else self.own
        others = relevance_weights(similarity, temperature=self.temperature, itself=itself)
        by_relevance = (1 - own) * others
        # whoever has nobody to learn from keeps its own
        by_relevance[torch.arange(len(itself)), itself] = 1 - by_relevance.sum(1)
        mean = torch.zeros_like(others)
        mean[:, :clients] = 1 / clients
        return mean.lerp(by_relevance, self.relevance)


def mixed_by_relevance(
    uploads: Uploads, state: ServerState, similar: SimilarityOf, share: RelevanceShare
) -> Aggregation:
    """Mix the proxies by relevance, and average whatever else is uploaded within each architecture.

    Args:
        uploads: of the clients.
        state: of the server; in its scratch folder many or large uploads are mixed.
        similar: how alike the tasks of two clients are.
        share: how much that counts.

    Returns:
        With weights and similarities of all clients, unless these are too many to look at.
    """
    clients = sum(not is_kept(client) for client in uploads)

    def by_relevance(rows: Tensor) -> Tensor:
        return share.weights(similar(rows), rows, clients)

    large = too_large_for_memory(uploads)
    downloads = Mixtures(uploads.receivers, state.scratch) if large else InMemoryMixtures(uploads.receivers)
    for holders, names in uploads.comparable(across_architectures=False):
        weights = by_relevance if is_of_proxy(names[0]) else partial(_uniform, clients=len(holders))
        downloads.add(uploads, names, holders, weights)
    if len(uploads) > MOST_CLIENTS_IN_A_MATRIX:
        return Aggregation(downloads=downloads)
    everyone = torch.arange(len(uploads))
    return Aggregation(downloads=downloads, relevance=by_relevance(everyone), similarity=similar(everyone))


def _uniform(rows: Tensor, *, clients: int) -> Tensor:
    return torch.full((len(rows), clients), 1 / clients)
