"""How much the proxy's opinions count in an answer: alike for all questions, or by how familiar the question is.

A client may have two of them: the proxy that it has trained, and the common one as it was received.
"""

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
        common: share of w that is the common proxy's, where the client knows no questions.
        common_familiar, common_foreign: the same for questions that are like those that it knows, and for others.
        novelty_quantile: share of the known questions that may be called unfamiliar.
        known: (K, d) embeddings of questions that it has trained on; None: w is ``fixed``.
    """

    fixed: float
    familiar: float
    foreign: float
    novelty_quantile: float
    common: float = 0.0
    common_familiar: float = 0.0
    common_foreign: float = 0.0
    known: Tensor | None = None

    @property
    def shared(self) -> bool:
        """Whether the common proxy counts in any answer."""
        shares = (self.common,) if self.known is None else (self.common_familiar, self.common_foreign)
        return any(shares)

    def __call__(self, samples: Sequence[Sample], embed: Embed) -> Tensor:
        """Return the weights of each sample, (B, 2): of the trained proxy and of the common one; they add up to w.

        Args:
            samples: B of them.
            embed: of the same proxy model that has embedded the known questions.
        """
        if self.known is None:
            return _parts(self.fixed, self.common).expand(len(samples), 2)
        asked = embed(samples)
        own = familiar(asked, self.known.to(asked), novelty_quantile=self.novelty_quantile).cpu()
        here, elsewhere = _parts(self.familiar, self.common_familiar), _parts(self.foreign, self.common_foreign)
        return torch.where(own[:, None], here, elsewhere)


def _parts(weight: float, common: float) -> Tensor:
    return torch.tensor([weight * (1 - common), weight * common])
