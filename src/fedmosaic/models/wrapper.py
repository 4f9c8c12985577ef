"""A base model that changes how another one answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.models.base import BaseModel, Batch

if TYPE_CHECKING:
    from fedmosaic.data.dialogue import Dialogue


class Wrapper(BaseModel):
    """Delegates everything to another model; subclasses override what they change.

    What is built on :meth:`hidden_states`, :meth:`head` and :meth:`collate` (losses, answers) follows the subclass. One
    that changes none of them, or hands on a batch's past, may set ``keeps_past`` to the inner model's.

    Args:
        inner: the model.
    """

    def __init__(self, inner: BaseModel) -> None:
        self.inner = inner
        self.name = inner.name
        self.architecture = inner.architecture
        self.module = inner.module
        self.tokenizer = inner.tokenizer
        self.decoder = inner.decoder
        self.reads_images = inner.reads_images
        self.limit = inner.limit

    def collate(self, samples: Sequence[Sample], *, with_answers: bool = True) -> Batch:
        """See :meth:`BaseModel.collate`."""
        return self.inner.collate(samples, with_answers=with_answers)

    def collate_dialogues(self, dialogues: Sequence[Dialogue]) -> Batch:
        """See :meth:`BaseModel.collate_dialogues`."""
        return self.inner.collate_dialogues(dialogues)

    def decode(self, batch: Batch) -> Tensor:
        """See :meth:`BaseModel.decode`."""
        return self.inner.decode(batch)

    def hidden_states(self, batch: Batch) -> Tensor:
        """See :meth:`BaseModel.hidden_states`; a subclass may return what only its own :meth:`head` can read."""
        return self.inner.hidden_states(batch)

    def head(self, hidden: Tensor) -> Tensor:
        """See :meth:`BaseModel.head`."""
        return self.inner.head(hidden)

    def continuations(self, samples: Sequence[Sample]) -> list[list[int]]:
        """See :meth:`BaseModel.continuations`."""
        return self.inner.continuations(samples)

    def prepare(self, samples: Sequence[Sample]) -> None:
        """See :meth:`BaseModel.prepare`."""
        self.inner.prepare(samples)

    def answer_tokens(self, answer: str) -> list[int]:
        """See :meth:`BaseModel.answer_tokens`."""
        return self.inner.answer_tokens(answer)

    @property
    def end_tokens(self) -> Tensor:
        """See :meth:`BaseModel.end_tokens`."""
        return self.inner.end_tokens


def unwrapped(model: BaseModel) -> BaseModel:
    """Return the base model inside any number of wrappers.

    Args:
        model: wrapped or not.
    """
    while isinstance(model, Wrapper):
        model = model.inner
    return model


def twin(model: BaseModel) -> BaseModel:
    """Return a second model with copies of the weights and without an adapter; all else is shared.

    Args:
        model: no wrapper; an adapter that it carries is out of its decoder for a moment.
    """
    second = copy.copy(model)
    second.adapter = None
    if model.adapter is not None:
        model.adapter.detach()
    try:
        second.module, second.decoder = copy.deepcopy((model.module, model.decoder))
    finally:
        if model.adapter is not None:
            model.adapter.reattach()
    return second
