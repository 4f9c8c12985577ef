"""FedAvg (McMahan et al., AISTATS 2017) of LoRA weights, as in FedIT (Zhang et al., ICASSP 2024).

    A = sum_k p_k A_k,   B = sum_k p_k B_k

Original: one model for all, p_k proportional to the number of samples. Here, as in the FedMosaic study, p_k is uniform
and the mean is over the clients of one architecture. A and B are averaged apart, so mean(B) mean(A) != mean(BA).
"""

from __future__ import annotations

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, Uploads, mean_within_architecture
from fedmosaic.training import Budget, Client


class FedAvg(Method[MethodSettings]):
    """One shared LoRA per architecture."""

    name = "fedavg"
    title = "FedAvg (FedIT)"
    slots = (Slot("shared", communicated=True),)
    answers_with = "shared"

    def train(self, client: Client, budget: Budget) -> None:
        """Train the shared slot from the received mean. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix=self.answers_with)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=mean_within_architecture(uploads))
