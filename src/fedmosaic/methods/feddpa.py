"""FedDPA (Yang et al., NeurIPS 2024, arXiv 2403.19211): a global and a local adapter, weighed for each instance.

    first half of a round:   u <- u - lr * grad F_k(u)                 the shared slot alone; the server averages it
    second half:             v <- v - lr * grad F_k((u + v) / 2)       the local slot, with the shared one present
    answering x:             a v + (1 - a) u,   a = 0.5 * mean_i cos(e(x), e(x_i))

e is the last hidden state, with the local slot alone, at the end of the prompt; x_i are 5 random training instances.

Original: variant F trains all local adapters after the last round, variant T alternates, with a = 0.5 in training; for
every test instance 5 new x_i are drawn. Adapted: the halves of each round, as in the FedMosaic study (which does
without instance weights); 5 instances of the round's batches are drawn once a round and kept as embeddings on the
client; a negative a counts as 0. Averages within an architecture.
"""

from __future__ import annotations

import dataclasses
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
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, Uploads, mean_within_architecture
from fedmosaic.models import BaseModel, Batch, Wrapper
from fedmosaic.training import Budget, Client

_BOTH = {"shared": 0.5, "local": 0.5}
_SHARE = "share of the local slot"


@dataclass(frozen=True, kw_only=True)
class FedDpaSettings(MethodSettings):
    """Values of the paper (METHODS B)."""

    by_instance: bool = True
    """Whether a follows the instance; else it is 0.5 as in training."""
    instances: Annotated[int, Field(ge=1)] = 5
    scale: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of the mean cosine; the largest a."""


class FedDpa(Method[FedDpaSettings]):
    """A shared and a local LoRA, trained one after the other and weighed by instance."""

    name = "feddpa"
    title = "FedDPA-F"
    slots = (Slot("shared", travels=True), Slot("local", travels=False))
    answers_with = _BOTH
    handles = "tasks"
    Settings = FedDpaSettings

    @property
    def answers_by_mixing(self) -> bool:
        """Only without instance weights."""
        return not self.settings.by_instance

    def train(self, client: Client, budget: Budget) -> None:
        """Train the shared slot, then the local one; of an odd number of steps the shared slot gets one more."""
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
        """The base model with both slots, weighed for each instance; before the first training by halves."""
        if "instances" in client.memory:
            yield _WeighedByInstance(client, self.settings.scale)
        else:
            with super().answering(client) as model:
                yield model

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture."""
        return Aggregation(downloads=mean_within_architecture(uploads))


class _WeighedByInstance(Wrapper):
    """Reads each prompt with the local slot first, and then computes with the weights that this gives."""

    def __init__(self, client: Client, scale: float) -> None:
        super().__init__(client.base)
        self._client = client
        self._scale = scale

    def collate(self, samples: Sequence[Sample], *, with_answers: bool = True) -> Batch:
        """Return the batch with the local slot's share (B,) beside it, so that decoding does not change it."""
        batch = self.inner.collate(samples, with_answers=with_answers)
        return dataclasses.replace(batch, vision={**batch.vision, _SHARE: self._share(samples)})

    def hidden_states(self, batch: Batch) -> Tensor:
        """Return the hidden states with each row's own weights."""
        vision = dict(batch.vision)
        share = vision.pop(_SHARE)
        with self._client.adapter.mixed_by_sample({"local": share, "shared": 1 - share}):
            return self.inner.hidden_states(dataclasses.replace(batch, vision=vision))

    def _share(self, samples: Sequence[Sample]) -> Tensor:
        """Return a, (B,), in [0, scale]."""
        asked = F.normalize(self._client.embed(samples, mix="local").float(), dim=-1)
        known = F.normalize(self._client.memory["instances"].to(asked), dim=-1)
        return (self._scale * (asked @ known.T).mean(1)).clamp(0, self._scale)
