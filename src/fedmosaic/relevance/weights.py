"""From sketches to relevance, and from relevance to each client's own mixture of the others (METHODS A.3, A.4)."""

from __future__ import annotations

import torch
from torch import Tensor


def cosine_similarity(sketches: Tensor) -> Tensor:
    """Return the (N, N) cosines between the rows of ``sketches`` (N, k).

    A zero sketch says nothing about its client's task: its similarity to all others is 0, to itself 1.
    """
    norms = sketches.norm(dim=1, keepdim=True)
    unit = sketches / norms.clamp(min=torch.finfo(sketches.dtype).tiny)
    cosines: Tensor = (unit @ unit.T).clamp(-1.0, 1.0)
    return cosines.fill_diagonal_(1.0)


def relevance_weights(similarity: Tensor, *, temperature: float, peers: Tensor | None = None) -> Tensor:
    """Return row-softmax weights w_ij = softmax_{j != i}(S_ij / temperature).

    Args:
        similarity: (N, N).
        temperature: tau > 0; the larger, the closer to the uniform mean over the others.
        peers: (N, N) boolean, who may learn from whom; the diagonal is ignored. Default: everyone from everyone.

    Returns:
        (N, N) non-negative weights with a zero diagonal; each row sums to 1, or is all zero if it has no peer.
    """
    count = len(similarity)
    allowed = torch.ones(count, count, dtype=torch.bool) if peers is None else peers.clone()
    allowed.fill_diagonal_(False)
    logits = (similarity / temperature).masked_fill(~allowed, -torch.inf)
    return torch.softmax(logits, dim=1).nan_to_num(nan=0.0)


def mix(weights: Tensor, tensors: Tensor) -> Tensor:
    """Return the weighted sums sum_j weights[i, j] tensors[j]: (M, N) and (N, ...) -> (M, ...)."""
    mixed: Tensor = weights @ tensors.flatten(1)
    return mixed.view(len(weights), *tensors.shape[1:])
