"""What a rule of aggregation is: it may change the weights of whole uploads, or combine single values otherwise.

A receiver gives a weight to every client whose upload it may use, its peers, and 0 to all others. Of FedMosaic the
weights follow from sketches, which an attacker chooses as freely as all else that it sends. So no rule trusts them: who
may be hostile is counted by heads, and the weights speak only among what is left. With equal weights every rule is the
published one.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from fedmosaic.registry import AGGREGATORS
from fedmosaic.relevance import weighted_sums

Parts = Callable[[], Iterable[Tensor]]
"""Gives the clients' values (N, ...), a part after the other, as often as it is called; none is kept."""


class Aggregator(ABC):
    """A rule. By itself this class is the weighted sum; a rule overrides :meth:`reweighed`, :meth:`mixed` or both.

    Args:
        attackers: share of each receiver's peers that are taken to be hostile, below 1/2.

    Attributes:
        name: as in ``aggregation.rule``.
    """

    name: ClassVar[str]

    def __init__(self, attackers: float = 0.0) -> None:
        self.attackers = attackers

    @property
    def sums(self) -> bool:
        """Whether :meth:`mixed` is the weighted sum."""
        return type(self).mixed is Aggregator.mixed

    def hostile(self, peers: int) -> int:
        """Return f, how many of a receiver's peers may be hostile: the share rounded up, but less than half of them.

        Args:
            peers: n of them.
        """
        return max(0, min(math.ceil(self.attackers * peers - 1e-9), (peers - 1) // 2))

    def reweighed(self, weights: Tensor, distances: Callable[[], Tensor], itself: Tensor | None) -> Tensor:
        """Return the weights that whole uploads shall have. Default: as they are.

        Args:
            weights: (M, N) of M receivers, not negative; each row sums to 1, or is zero.
            distances: gives the Euclidean ones between all uploads, (N, N) in float64; for rules that compare them.
            itself: (M,) the columns that are the receivers' own uploads; None: nobody's mean, but everybody's.

        Returns:
            (M, N).
        """
        return weights

    def mixed(self, weights: Tensor, values: Tensor, *, most: int = 0) -> Tensor:
        """Combine values, each column by itself. Default: the weighted sum.

        Args:
            weights: (M, N), as :meth:`reweighed` returns them.
            values: (N, V).
            most: no row has more weights than these that are not zero; 0: all.

        Returns:
            (M, V).
        """
        return weighted_sums(weights, values, most=most)

    def averaged(self, clients: int, parts: Parts) -> Iterator[Tensor]:
        """Average several tensors over the same clients, with equal weights.

        Args:
            clients: N.
            parts: gives the tensors, (N, ...) each.

        Yields:
            Each tensor's average, (...).
        """
        equal = torch.full((1, clients), 1 / clients)
        return (each[0] for each in self._combined(equal, parts, None))

    def others_averaged(self, clients: int, parts: Parts) -> Iterator[Tensor]:
        """Average several tensors, for each client over all others, with equal weights.

        Args:
            clients: N, at least 2.
            parts: gives the tensors, (N, ...) each.

        Yields:
            Each tensor's averages, (N, ...).
        """
        equal = (1 - torch.eye(clients)) / (clients - 1)
        return self._combined(equal, parts, torch.arange(clients))

    def own_mixtures(self, weights: Tensor, values: Tensor, itself: Tensor, *, most: int = 0) -> Tensor:
        """Return each receiver's mixture of the others' values.

        Args:
            weights: (M, N), zero for oneself.
            values: (N, V).
            itself: (M,) the receivers' own rows of the values.
            most: no row has more weights than these that are not zero; 0: all.

        Returns:
            (M, V).
        """
        final = self.reweighed(weights, lambda: distances_between([values]), itself)
        return self.mixed(final, values, most=most and most_weights(final))

    def _combined(self, weights: Tensor, parts: Parts, itself: Tensor | None) -> Iterator[Tensor]:
        final = self.reweighed(weights, lambda: distances_between(parts()), itself)
        for part in parts():
            yield self.mixed(final.to(part.dtype), part.flatten(1)).view(-1, *part.shape[1:])


def make_aggregator(rule: str, attackers: float) -> Aggregator:
    """Return a rule.

    Args:
        rule: its name.
        attackers: share of each receiver's peers that are taken to be hostile.

    Raises:
        SettingsError: there is no rule of this name.
    """
    kind: type[Aggregator] = AGGREGATORS.load(rule)
    return kind(attackers)


def most_weights(weights: Tensor) -> int:
    """Return the largest number of weights of a row that are not zero.

    Args:
        weights: (M, N).
    """
    return int(weights.count_nonzero(dim=1).max()) if len(weights) else 0


def distances_between(parts: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean distances between clients' values.

    Args:
        parts: the values, (N, ...) each, N the same.

    Returns:
        (N, N) in float64, zero on the diagonal; infinite to a client with values that are not finite.
    """
    squares: Tensor | float = 0.0
    for part in parts:
        rows = part.flatten(1).double()
        gram = (rows @ rows.T).nan_to_num(nan=torch.inf)
        norms = gram.diagonal()
        squares = squares + (norms[:, None] + norms - 2 * gram).nan_to_num(nan=torch.inf).clamp(min=0)
    assert isinstance(squares, Tensor)
    return squares.sqrt().fill_diagonal_(0.0)
