"""SFT: supervised fine-tuning on one's own data, the local-only reference.

    L <- L - lr * grad F_k(L)

Nothing is uploaded and nothing is received.
"""

from __future__ import annotations

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import Budget, Client


class Sft(Method[MethodSettings]):
    """Every client trains one LoRA alone."""

    name = "sft"
    title = "SFT (local only)"
    slots = (Slot("local", communicated=False),)
    answers_with = "local"
    robust = True  # nothing is combined
    heterogeneity = "tasks, base models"

    def train(self, client: Client, budget: Budget) -> None:
        """Train the local slot. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.step(batch, slots=("local",), mix=self.answers_with)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Send nothing. See :meth:`Method.aggregate`."""
        return Aggregation(downloads={})
