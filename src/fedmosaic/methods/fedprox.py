"""FedProx (Li et al., MLSys 2020, arXiv 1812.06127): FedAvg whose clients are held near what they received.

With w_t what the client received this round and F_k its answer loss:

    w <- w - lr * (grad F_k(w) + mu (w - w_t))     i.e. descent on F_k(w) + mu / 2 ||w - w_t||²;   the server averages w

Original: whole models, SGD, mu from {0.001, 0.01, 0.1, 1} by data set, clients that do unequal amounts of work and are
averaged all the same. Adapted: one LoRA, AdamW, averages within an architecture. The distance is that of A and of B,
not of B A. As AdamW's steps do not grow with the gradient, mu weighs otherwise than under SGD; clients work alike.
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
class FedProxSettings(MethodSettings):
    """Values of the paper (docs/method-facts.md#fedprox)."""

    mu: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    """Pull towards the received weights."""


class FedProx(Method[FedProxSettings]):
    """One shared LoRA per architecture, with a pull."""

    name = "fedprox"
    title = "FedProx"
    slots = (Slot("shared", communicated=True),)
    answers_with = "shared"
    robust = True
    Settings = FedProxSettings

    def train(self, client: Client, budget: Budget) -> None:
        """Train the shared slot, pulled towards where it starts. See :meth:`Method.train`."""
        pull = proximal("shared", client.snapshot("shared"), self.settings.mu)
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix="shared", penalty=pull)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=mean_within_architecture(uploads))
