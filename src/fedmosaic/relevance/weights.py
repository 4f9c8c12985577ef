"""From sketches to relevance weights, and from these to each client's weighted sum of the others' adapters.

The published rules: docs/method-facts.md#similarity-and-weights and docs/method-facts.md#aggregation.

Edge cases, so that no client's unusable upload spoils another's download:

- one client, or one that may learn from nobody: a row of zeros; it receives nothing and keeps its own.
- a sketch that is zero, or not finite, or whose norm is not: similarity 0 to all others. Others weigh it as they weigh
  an unrelated task, and it weighs all others equally. A similarity that is not a finite number counts as 0, too.
- identical sketches: equal weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fedmosaic.relevance.polar import polar

_TILE_VALUES = 2**18
_NARROWEST_TILE = 64


def cosine_similarity(sketches: Tensor) -> Tensor:
    """Return the cosines between sketches.

    A sketch that is zero or not finite carries no information about its client's task: its similarity to all others is
    0, to itself 1.

    Args:
        sketches: (N, k).

    Returns:
        (N, N) from -1 to 1.
    """
    unit = unit_rows(sketches)
    cosines: Tensor = (unit @ unit.T).clamp(-1.0, 1.0)
    return cosines.fill_diagonal_(1.0)


def unit_rows(sketches: Tensor) -> Tensor:
    """Return the sketches at length one.

    Args:
        sketches: (N, k).

    Returns:
        (N, k); zero for a row whose norm is zero or not finite.
    """
    lengths, directions = polar(sketches)
    return torch.where(lengths.isfinite(), directions, 0.0)


def common_direction(sketches: Tensor) -> Tensor:
    """Return the mean direction of sketches, in which each has one voice however long it is.

    Args:
        sketches: (N, k); rows that are zero or not finite say nothing and are not counted.

    Returns:
        (k,); zero if fewer than two say anything: what one alone has is not common.
    """
    unit = unit_rows(sketches)
    return _mean_of_nonzero(unit) if _nonzero(unit).sum() > 1 else torch.zeros_like(unit[0])


def centred(sketches: Tensor) -> Tensor:
    """Return directions less the mean one: what all clients have in common tells nothing of who does what.

    Args:
        sketches: (N, k).

    Returns:
        (N, k); zero where a sketch is zero or not finite.
    """
    unit = unit_rows(sketches)
    return torch.where(_nonzero(unit), unit - _mean_of_nonzero(unit), 0.0)


def _mean_of_nonzero(unit: Tensor) -> Tensor:
    """The mean of the rows that are not zero."""
    mean: Tensor = unit.sum(0) / _nonzero(unit).sum().clamp(min=1)
    return mean


def _nonzero(unit: Tensor) -> Tensor:
    return unit.ne(0).any(1, keepdim=True)


def relevance_weights(
    similarity: Tensor,
    *,
    temperature: float,
    peers: Tensor | None = None,
    most: int = 0,
    itself: Tensor | None = None,
) -> Tensor:
    """Return row-softmax weights w_ij = softmax_{j != i}(S_ij / temperature).

    Args:
        similarity: (M, N) of M clients to all N.
        temperature: tau > 0; the larger, the closer to the uniform mean over the others.
        peers: (M, N) boolean, who may learn from whom; a client's own column is ignored. Default: everyone from
            everyone.
        most: number of peers, the most similar ones, that a client learns from; 0: all. Of equally similar ones, those
            that come first.
        itself: (M,) the column that is the row's own client. Default: the diagonal.

    Returns:
        (M, N) non-negative weights, zero for oneself; each row sums to 1, or is all zero if it has no peer.
    """
    rows, count = similarity.shape
    own = torch.arange(rows) if itself is None else itself
    logits = torch.where(similarity.isfinite(), similarity, 0.0)
    if peers is not None:
        logits.masked_fill_(~peers, -torch.inf)
    logits[torch.arange(rows), own] = -torch.inf
    if 0 < most < count - 1:
        logits = logits.masked_fill(~largest_mask(logits, most), -torch.inf)
    # Differences to the best peer, not similarities, are divided: by however small a temperature, that peer's stays 0.
    logits -= logits.amax(1, keepdim=True)  # NaN in rows without a peer
    range_ = torch.finfo(logits.dtype)
    logits /= min(max(temperature, range_.tiny), range_.max)
    return torch.softmax(logits, dim=1).nan_to_num(nan=0.0)


def largest_mask(values: Tensor, most: int) -> Tensor:
    """Return a mask of the largest values in each row; of equal ones, those that come first are taken.

    Args:
        values: (M, N).
        most: how many of each row, from 1 to N.

    Returns:
        (M, N) boolean.
    """
    least = values.topk(most, dim=1).values[:, -1:]
    above, equal = values > least, values == least
    room = most - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= room))


def weighted_sums(weights: Tensor, tensors: Tensor, *, most: int = 0) -> Tensor:
    """Return the weighted sums sum_j weights[i, j] tensors[j].

    Args:
        weights: (M, N).
        tensors: (N, ...).
        most: the largest number of weights of a row that are not zero, and only these are read; 0: all.

    Returns:
        (M, ...).
    """
    values = tensors.flatten(1)
    few = 0 < most < weights.shape[1]
    mixed = gather(*weights.topk(most, dim=1), values) if few else weights @ values
    return mixed.view(len(weights), *tensors.shape[1:])


def gather(weights: Tensor, clients: Tensor, values: Tensor) -> Tensor:
    """Return sum_l weights[i, l] values[clients[i, l]], for few clients per row.

    Args:
        weights: (M, k).
        clients: (M, k) integers.
        values: (N, V); taken in tiles of columns that stay in the processor's cache while rows are picked from them.

    Returns:
        (M, V).
    """
    mixed = values.new_empty(len(weights), values.shape[1])
    width = max(_NARROWEST_TILE, _TILE_VALUES // max(1, len(values)))
    for start in range(0, values.shape[1], width):
        tile = values[:, start : start + width].contiguous()
        mixed[:, start : start + width] = F.embedding_bag(clients, tile, per_sample_weights=weights, mode="sum")
    return mixed
