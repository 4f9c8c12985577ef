"""Null models: base models without computation, on which the FLOPs of a whole run are counted in seconds (a dry run).

The cost of a pass depends on the shapes of its batch alone, and the samples that are drawn are known beforehand. So a
method meters on these models exactly the FLOPs that it will meter in the real run, as long as its decisions do not
depend on a model's predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fedmosaic.adapters.placement import find_targets
from fedmosaic.data.sample import Sample
from fedmosaic.models import BaseModel, Batch, Wrapper
from fedmosaic.models.base import IGNORED, output_matrix
from fedmosaic.training.model_pool import ModelPool


class _Zero(torch.autograd.Function):
    """A zero that depends on parameters in the graph; their gradients are zeros."""

    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> Tensor:
        """Return the zero."""
        ctx.save_for_backward(*parameters)
        return parameters[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
        """Return a zero for each parameter."""
        return tuple(map(torch.zeros_like, ctx.saved_tensors))


class NullModel(Wrapper):
    """Tokens are those of the real model; hidden states and logits are zeros of the right shapes, with zero gradients.

    Args:
        inner: the real model; its weights are never used.
    """

    def __init__(self, inner: BaseModel) -> None:
        super().__init__(inner)
        self.reads_images = inner.reads_images
        self._rows: dict[tuple[int, bool], tuple[Sample, Tensor, Tensor]] = {}

    def collate(self, samples: Sequence[Sample], *, with_answers: bool = True) -> Batch:
        """See :meth:`BaseModel.collate`; without images, and each sample is read only once."""
        rows = [self._row(sample, with_answers) for sample in samples]
        ids = pad_sequence([ids for ids, _ in rows], batch_first=True)
        labels = pad_sequence([labels for _, labels in rows], batch_first=True, padding_value=IGNORED)
        lengths = torch.tensor([len(ids) for ids, _ in rows], device=ids.device)
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        return Batch(ids, mask.long(), labels)

    def hidden_states(self, batch: Batch) -> Tensor:
        """Return (B, T, d) zeros.

        Args:
            batch: B sequences of T tokens.
        """
        opened = [parameter for parameter in self._parameters if parameter.requires_grad]
        zero = torch.zeros((), device=batch.input_ids.device)
        if opened:
            zero = _Zero.apply(*opened)  # type: ignore[no-untyped-call]
        hidden: Tensor = zero.expand(*batch.input_ids.shape, output_matrix(self.module).in_features)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """Return (..., V) zeros, which depend on the hidden states in the graph.

        Args:
            hidden: (..., d).
        """
        return 0 * hidden[..., :1].expand(*hidden.shape[:-1], output_matrix(self.module).out_features)

    @cached_property
    def _parameters(self) -> list[Tensor]:
        """All of the module's, listed when it is first used, with its adapters in it."""
        return list(self.module.parameters())

    def _row(self, sample: Sample, with_answers: bool) -> tuple[Tensor, Tensor]:
        key = (id(sample), with_answers)
        if key not in self._rows:
            batch = self.inner.collate([sample], with_answers=with_answers)
            self._rows[key] = sample, batch.input_ids[0], batch.labels[0]  # with the sample, whose id is taken then
        return self._rows[key][1:]


class NullProbe(NullModel):
    """A probe computes its last projection, of zeros, and the head, because sketches are taken there."""

    def hidden_states(self, batch: Batch) -> Tensor:
        """Return the last projection's output for zeros.

        Args:
            batch: B sequences of T tokens.

        Returns:
            (B, T, d).
        """
        last = find_targets(self.decoder, blocks=0).targets[-1]
        zeros = torch.zeros(*batch.input_ids.shape, last.in_features, dtype=self.module.dtype, device=self.device)
        hidden: Tensor = self.decoder.get_submodule(last.path)(zeros)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V).

        Args:
            hidden: (..., d).
        """
        return self.inner.head(hidden)


class NullModelPool(ModelPool):
    """A :class:`ModelPool` of null models."""

    def known(self, name: str) -> BaseModel:
        """See :meth:`ModelPool.known`."""
        if name not in self._models:
            self._models[name] = NullModel(super().known(name))
        return self._models[name]

    def _copy(self, name: str, purpose: str) -> BaseModel:
        if (name, purpose) not in self._copies:
            kind = NullProbe if purpose == "probe" else NullModel
            self._copies[name, purpose] = kind(super()._copy(name, purpose))
        return self._copies[name, purpose]
