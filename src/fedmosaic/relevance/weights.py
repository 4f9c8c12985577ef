"""From sketches to relevance, and from relevance to each client's own mixture of the others (METHODS A.3, A.4).

What happens at the edges, so that no client's odd upload spoils another's download:

- one client, or one that may learn from nobody: a row of zeros; it receives nothing and keeps its own.
- a sketch that is zero, or not finite, or whose norm is not: similarity 0 to all others. Others weigh it as they weigh
  an unrelated task, and it weighs all others alike.
- identical sketches: equal weights.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cosine_similarity(sketches: Tensor) -> Tensor:
    """Return the (N, N) cosines between the rows of ``sketches`` (N, k).

    A sketch that is zero or not finite says nothing about its client's task: its similarity to all others is 0, to
    itself 1.
    """
    unit = unit_rows(sketches)
    cosines: Tensor = (unit @ unit.T).clamp(-1.0, 1.0)
    return cosines.fill_diagonal_(1.0)


def unit_rows(sketches: Tensor) -> Tensor:
    """Return the rows (N, k) at length one; zero for a row whose norm is zero or not finite."""
    norms = sketches.norm(dim=1, keepdim=True)
    unit: Tensor = sketches / norms.clamp(min=torch.finfo(sketches.dtype).tiny)
    return torch.where(norms.isfinite(), unit, 0.0)


def relevance_weights(similarity: Tensor, *, temperature: float, peers: Tensor | None = None, most: int = 0) -> Tensor:
    """Return row-softmax weights w_ij = softmax_{j != i}(S_ij / temperature).

    Args:
        similarity: (N, N).
        temperature: tau > 0; the larger, the closer to the uniform mean over the others.
        peers: (N, N) boolean, who may learn from whom; the diagonal is ignored. Default: everyone from everyone.
        most: number of peers, the most similar ones, that a client learns from; 0: all. Of equally similar ones, those
            that come first.

    Returns:
        (N, N) non-negative weights with a zero diagonal; each row sums to 1, or is all zero if it has no peer.
    """
    count = len(similarity)
    allowed = torch.ones(count, count, dtype=torch.bool) if peers is None else peers.clone()
    allowed.fill_diagonal_(False)
    logits = (similarity / temperature).masked_fill(~allowed, -torch.inf)
    if 0 < most < count - 1:
        logits = logits.masked_fill(~largest(logits, most), -torch.inf)
    return torch.softmax(logits, dim=1).nan_to_num(nan=0.0)


def largest(values: Tensor, most: int) -> Tensor:
    """Return a mask of the ``most`` largest values in each row of (M, N); of equal ones, those that come first."""
    least = values.topk(most, dim=1).values[:, -1:]
    above, equal = values > least, values == least
    room = most - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= room))


def mix(weights: Tensor, tensors: Tensor) -> Tensor:
    """Return the weighted sums sum_j weights[i, j] tensors[j]: (M, N) and (N, ...) -> (M, ...)."""
    mixed: Tensor = weights @ tensors.flatten(1)
    return mixed.view(len(weights), *tensors.shape[1:])
