"""A client's model whose slot weights depend on the prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.models import Batch, Wrapper
from fedmosaic.training import Client

Weigh = Callable[[Sequence[Sample]], Mapping[str, Tensor]]


class InstanceWeighted(Wrapper):
    """Asks for the weights of a batch's samples when it reads them, so that decoding does not change them.

    Args:
        client: whose base model and slots.
        weigh: gives each slot's weights, (B,), by the samples' prompts; slots left out do not enter.
    """

    def __init__(self, client: Client, weigh: Weigh) -> None:
        super().__init__(client.base)
        self.keeps_past = client.base.keeps_past
        self._weigh = weigh

    def collate(self, samples: Sequence[Sample], *, with_answers: bool = True) -> Batch:
        """Return the batch with the slots' weights in each row.

        Args:
            samples: at least one.
            with_answers: whether the answers are appended.
        """
        batch = self.inner.collate(samples, with_answers=with_answers)
        return dataclasses.replace(batch, slot_weights=self._weigh(samples))
