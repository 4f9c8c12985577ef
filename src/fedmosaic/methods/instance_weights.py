"""A client's model whose slots weigh differently in every answer, by the prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.models import Batch, Wrapper
from fedmosaic.training import Client

Weigh = Callable[[Sequence[Sample]], Mapping[str, Tensor]]
_WEIGHT = "weight of slot "


class InstanceWeighted(Wrapper):
    """Asks for the weights of a batch's samples first, and then computes with them.

    Args:
        client: whose base model and slots.
        weigh: gives each slot's weights, (B,), by the samples' prompts; slots left out do not enter.
    """

    def __init__(self, client: Client, weigh: Weigh) -> None:
        super().__init__(client.base)
        self._adapter = client.adapter
        self._weigh = weigh

    def collate(self, samples: Sequence[Sample], *, with_answers: bool = True) -> Batch:
        """Return the batch with the weights beside it, so that decoding does not change them."""
        batch = self.inner.collate(samples, with_answers=with_answers)
        given = {_WEIGHT + slot: weight for slot, weight in self._weigh(samples).items()}
        return dataclasses.replace(batch, vision={**batch.vision, **given})

    def hidden_states(self, batch: Batch) -> Tensor:
        """Return the hidden states with each row's own weights."""
        given = {key.removeprefix(_WEIGHT): each for key, each in batch.vision.items() if key.startswith(_WEIGHT)}
        vision = {key: each for key, each in batch.vision.items() if not key.startswith(_WEIGHT)}
        with self._adapter.mixed_by_sample(given):
            return self.inner.hidden_states(dataclasses.replace(batch, vision=vision))
