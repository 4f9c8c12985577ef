"""FedDPA (Yang et al., NeurIPS 2024, arXiv 2403.19211): a global and a local adapter, weighed for each instance.

    first half of a round:   u <- u - lr * grad F_k(u)                 the shared slot alone; the server averages it
    second half:             v <- v - lr * grad F_k((u + v) / 2)       the local slot, with the shared one present
    answering x:             a v + (1 - a) u,   a = 0.5 * mean_i cos(e(x), e(x_i))

e is the last hidden state, with the local slot alone, at the end of the prompt; x_i are 5 random training instances.

Original: variant F trains all local adapters after the last round, variant T, which this is, alternates, with a = 0.5
in training; for every test instance 5 new x_i are drawn. Adapted: it alternates by the halves of each round, as in the
FedMosaic study (which does without instance weights); 5 instances of the round's batches are drawn once a round and
kept as embeddings on the client; a negative a counts as 0. Averages within an architecture.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import Slot
from fedmosaic.data.sample import Sample
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, mean_within_architecture
from fedmosaic.methods.instance_weights import InstanceWeighted
from fedmosaic.methods.uploads import Uploads
from fedmosaic.models import BaseModel
from fedmosaic.training import Budget, Client

_BOTH = {"shared": 0.5, "local": 0.5}


@dataclass(frozen=True, kw_only=True)
class FedDpaSettings(MethodSettings):
    """Values of the paper (docs/method-facts.md#feddpa)."""

    by_instance: bool = True
    """Whether a follows the instance; else it is 0.5 as in training."""
    instances: Annotated[int, Field(ge=1)] = 5
    """Training instances to which a test instance is compared."""
    scale: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of the mean cosine; the largest a."""


class FedDpa(Method[FedDpaSettings]):
    """A shared and a local LoRA, trained one after the other and weighed by instance."""

    name = "feddpa"
    title = "FedDPA-T"
    slots = (Slot("shared", communicated=True), Slot("local", communicated=False))
    answers_with = _BOTH
    robust = True
    heterogeneity = "tasks"
    Settings = FedDpaSettings

    @property
    def answers_by_mixing(self) -> bool:
        """Only without instance weights."""
        return not self.settings.by_instance

    def train(self, client: Client, budget: Budget) -> None:
        """Train the shared slot, then the local one; of an odd number of steps the shared slot gets one more.

        See :meth:`Method.train`.
        """
        seen: list[Sample] = []
        for step, batch in enumerate(client.batches(budget)):
            if 2 * step < budget.steps:
                client.step(batch, slots=("shared",), mix="shared")
            else:
                client.step(batch, slots=("local",), mix=_BOTH)
            seen += batch.samples
        if self.settings.by_instance:
            draw = random.Random(seeding.derive(client.settings.seed, "feddpa", client.id, client.round))
            chosen = draw.sample(seen, min(self.settings.instances, len(seen)))
            client.memory["instances"] = client.embed(chosen, mix="local")

    @contextmanager
    def answering(self, client: Client) -> Iterator[BaseModel]:
        """The base model with both slots, weighed for each instance; before the first training by halves.

        See :meth:`Method.answering`.
        """
        if "instances" in client.memory:
            yield InstanceWeighted(client, lambda samples: self._weights(client, samples))
        else:
            with super().answering(client) as model:
                yield model

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=mean_within_architecture(uploads))

    def _weights(self, client: Client, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return a of the local slot and 1 - a of the shared one, (B,) each."""
        asked = F.normalize(client.embed(samples, mix="local").float(), dim=-1)
        known = F.normalize(client.memory["instances"].to(asked), dim=-1)
        a = (self.settings.scale * (asked @ known.T).mean(1)).clamp(0, self.settings.scale)
        return {"local": a, "shared": 1 - a}
