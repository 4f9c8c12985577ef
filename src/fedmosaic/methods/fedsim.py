"""FedSim (Pillutla et al., ICML 2022, arXiv 2204.03809): partial personalisation, both parts trained at once.

With z_s the logits of the base model with slot s alone, and CE the answer loss:

    (u, v) <- (u, v) - lr * grad CE(z_u + z_v)     one joint step; u is averaged by the server, v stays

Original: a model whose layers are divided into shared u and personal v. Adapted, as in the FedMosaic study: two LoRA
slots whose logits are summed, in training and in answering; averages within an architecture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, mean_within_architecture
from fedmosaic.methods.uploads import Uploads
from fedmosaic.models import BaseModel, Batch, Wrapper
from fedmosaic.training import Budget, Client, LocalBatch, cross_entropy


class FedSim(Method[MethodSettings]):
    """A shared and a personal LoRA whose logits are summed."""

    name = "fedsim"
    title = "FedSim"
    slots = (Slot("shared", communicated=True), Slot("personal", communicated=False))
    answers_with = "personal"  # not used: see answering()
    robust = True
    heterogeneity = "tasks"

    def train(self, client: Client, budget: Budget) -> None:
        """Train both slots jointly on the summed logits. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.descend(partial(self._loss, client, batch), batch, slots=("shared", "personal"))

    def _loss(self, client: Client, batch: LocalBatch) -> Tensor:
        shared, personal = client.answers(batch, mix="shared"), client.answers(batch, mix="personal")
        return cross_entropy(shared._replace(logits=shared.logits + personal.logits))

    @contextmanager
    def answering(self, client: Client) -> Iterator[BaseModel]:
        """The base model with the logits of both slots summed. See :meth:`Method.answering`."""
        yield _Summed(client)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=mean_within_architecture(uploads))


class _Summed(Wrapper):
    """Two passes, one with each slot; hidden states are (B, T, 2 d), and the head sums what it makes of the halves."""

    def __init__(self, client: Client) -> None:
        super().__init__(client.base)
        self.keeps_past = client.base.keeps_past
        self._adapter = client.adapter

    def hidden_states(self, batch: Batch) -> Tensor:
        """Return both slots' hidden states side by side."""
        states = []
        for slot in ("shared", "personal"):
            with self._adapter.mixed({slot: 1.0}):
                own = batch if batch.past is None else replace(batch, past=batch.past.part(slot))
                states.append(self.inner.hidden_states(own))
        return torch.cat(states, -1)

    def head(self, hidden: Tensor) -> Tensor:
        """Return the sum of both halves' logits."""
        shared, personal = hidden.chunk(2, -1)
        return self.inner.head(shared) + self.inner.head(personal)
