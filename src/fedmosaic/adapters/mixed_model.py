"""A base model as it answers with one mix of its adapter's slots: several of these can share one model."""

from __future__ import annotations

from torch import Tensor

from fedmosaic.adapters.adapter import Adapter
from fedmosaic.adapters.folding import FoldedMix
from fedmosaic.adapters.forward_context import SlotWeights
from fedmosaic.models.base import BaseModel, Batch
from fedmosaic.models.wrapper import Wrapper


class MixedModel(Wrapper):
    """Reads every batch with the same mix, whatever the adapter is set to meanwhile.

    Args:
        inner: the model that carries the adapter.
        adapter: is set to the mix, folded in where that is exact, for as long as a batch is read; its tensors count as
            they are now.
        weights: of the slots, as :meth:`Adapter.mixed` takes them.
    """

    def __init__(self, inner: BaseModel, adapter: Adapter, weights: SlotWeights) -> None:
        super().__init__(inner)
        self.keeps_past = inner.keeps_past
        self._mix = FoldedMix(adapter, weights)

    def hidden_states(self, batch: Batch) -> Tensor:
        """See :meth:`BaseModel.hidden_states`."""
        with self._mix.in_place():
            return self.inner.hidden_states(batch)
