"""How much the proxy's opinion counts in an answer: alike for all questions, or by how familiar the question is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.methods.familiarity import familiar

Embed = Callable[[Sequence[Sample]], Tensor]
"""Gives embeddings (B, d) of the questions of samples, by the frozen proxy."""


@dataclass(frozen=True, kw_only=True)
class ProxyWeight:
    """The rule of one client.

    Attributes:
        fixed: w, where the client knows no questions.
        familiar, foreign: w of questions that are like those that it knows, and of others.
        novelty_quantile: share of the known questions that may be called unfamiliar.
        known: (K, d) embeddings of questions that it has trained on; None: w is ``fixed``.
    """

    fixed: float
    familiar: float
    foreign: float
    novelty_quantile: float
    known: Tensor | None = None

    def __call__(self, samples: Sequence[Sample], embed: Embed) -> Tensor:
        """Return w of each sample, (B,).

        Args:
            samples: B of them.
            embed: of the same proxy model that has embedded the known questions.
        """
        if self.known is None:
            return torch.full((len(samples),), self.fixed)
        asked = embed(samples)
        own = familiar(asked, self.known.to(asked), novelty_quantile=self.novelty_quantile)
        return torch.where(own, self.familiar, self.foreign)
