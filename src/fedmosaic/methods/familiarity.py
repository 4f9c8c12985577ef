"""Novelty detection: whether a question is like those that a client was trained on.

A question is familiar if its nearest known question is at least as similar as all but a few known questions are to
their nearest. Similarities are cosines of the frozen base model's embeddings of the prompts, after their mean is
subtracted. The embeddings never leave the client.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.training import Client


def familiar(asked: Tensor, known: Tensor, *, novelty_quantile: float) -> Tensor:
    """Return for each question whether it is familiar.

    Args:
        asked: (B, d) embeddings of questions.
        known: (K, d) embeddings of known questions, K >= 1; to a single one all questions are familiar.
        novelty_quantile: share of the known ones that may be called unfamiliar to the others, in [0, 1).

    Returns:
        (B,) boolean.
    """
    centre = known.float().mean(0)
    known = F.normalize(known.float() - centre, dim=-1)
    asked = F.normalize(asked.float() - centre, dim=-1)
    nearest_other = (known @ known.T).fill_diagonal_(-2).amax(1)  # -2: nearer than this is everything
    return (asked @ known.T).amax(1) >= nearest_other.quantile(novelty_quantile)


def remember_questions(client: Client, embedding: Client, seen: Sequence[Sample], *, per_round: int, most: int) -> None:
    """Add some of a round's questions to those that a client knows, in its private memory.

    Args:
        client: the client.
        embedding: whose frozen base model embeds them: the client itself, or its proxy.
        seen: the round's samples.
        per_round: how many of them are drawn by torch's generator.
        most: how many are kept in all.
    """
    chosen = [seen[i] for i in torch.randperm(len(seen))[:per_round].tolist()]
    new = embedding.embed(chosen, mix={})
    client.memory["known"] = remember(client.memory.get("known"), new, most)


def familiar_questions(
    client: Client, embedding: Client, samples: Sequence[Sample], *, novelty_quantile: float
) -> Tensor:
    """Return for each sample whether its question is familiar to a client that knows some.

    Args:
        client: the client.
        embedding: as it was given to :func:`remember_questions`.
        samples: B of them.
        novelty_quantile: as for :func:`familiar`.

    Returns:
        (B,) boolean.
    """
    asked, known = embedding.embed(samples, mix={}), client.memory["known"]
    return familiar(asked, known.to(asked), novelty_quantile=novelty_quantile)


def remember(known: Tensor | None, new: Tensor, most: int) -> Tensor:
    """Return known embeddings with new ones added.

    Args:
        known: (K, d), or None.
        new: (N, d).
        most: of more than these, as many are drawn by torch's generator.

    Returns:
        (min(K + N, most), d).
    """
    together = new if known is None else torch.cat([known, new])
    if len(together) <= most:
        return together
    return together[torch.randperm(len(together))[:most].sort().values]
