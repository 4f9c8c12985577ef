"""FedAvg (McMahan et al., AISTATS 2017) of LoRA weights, as in FedIT (Zhang et al., ICASSP 2024).

    A = sum_k p_k A_k,   B = sum_k p_k B_k

Original: one model for all, p_k proportional to the number of samples. Here, as in the FedMosaic study, p_k is uniform
and the mean is over the clients of one architecture. A and B are averaged apart, so mean(B) mean(A) != mean(BA).
Beyond the papers, ``across`` averages what means the same in all architectures, a tower adapter's P and Q, over all.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, mean_of_comparable
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import Budget, Client


@dataclass(frozen=True, kw_only=True)
class FedAvgSettings(MethodSettings):
    """What is averaged over whom."""

    across: bool = False
    """Whether a tower adapter's P and Q are averaged over the clients of all architectures with this tower."""


class FedAvg(Method[FedAvgSettings]):
    """One shared LoRA per architecture.

    Args:
        settings: what is averaged over whom.
    """

    name = "fedavg"
    title = "FedAvg (FedIT)"
    slots = (Slot("shared", communicated=True),)
    answers_with = "shared"
    robust = True
    Settings = FedAvgSettings

    def __init__(self, settings: FedAvgSettings) -> None:
        super().__init__(settings)
        self.across_architectures = settings.across

    def train(self, client: Client, budget: Budget) -> None:
        """Train the shared slot from the received mean. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix=self.answers_with)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture, or what can be over all. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=mean_of_comparable(uploads, across_architectures=self.settings.across))
