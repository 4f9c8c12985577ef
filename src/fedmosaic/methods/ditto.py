"""Ditto (Li et al., ICML 2021, arXiv 2012.04221): a personal model pulled towards the shared one.

For every batch, with w_t what the client received this round and F_k its answer loss:

    u <- u - lr * grad F_k(u)                          the shared slot, averaged by the server
    v <- v - lr * (grad F_k(v) + lambda (v - w_t))     the personal slot, which the client answers with

Original: whole models, SGD, lambda from {0.1, 1, 2}, and the two steps interleaved on each batch, as here. Adapted:
LoRA slots, AdamW with moments of their own for u and v, and averages within an architecture. w_t stays fixed in the
round; v never leaves the client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, mean_within_architecture
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import Budget, Client, proximal


@dataclass(frozen=True, kw_only=True)
class DittoSettings(MethodSettings):
    """Values of the paper (docs/method-facts.md#ditto)."""

    pull: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    """lambda: towards the received weights."""


class Ditto(Method[DittoSettings]):
    """A shared and a personal LoRA, one step each on every batch."""

    name = "ditto"
    title = "Ditto"
    slots = (Slot("shared", communicated=True), Slot("personal", communicated=False))
    answers_with = "personal"
    robust = True
    heterogeneity = "tasks"
    Settings = DittoSettings

    def train(self, client: Client, budget: Budget) -> None:
        """Train the shared slot by itself and the personal one with the pull. See :meth:`Method.train`."""
        pull = proximal("personal", client.snapshot("shared"), self.settings.pull)
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix="shared")
            client.step(batch, slots=("personal",), mix="personal", penalty=pull)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=mean_within_architecture(uploads))
