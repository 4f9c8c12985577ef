"""A model's predictions of public samples, compressed for communication: top-k of each token, loss of each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedmosaic.adapters import SlotWeights
from fedmosaic.errors import WireError
from fedmosaic.models.base import IGNORED
from fedmosaic.training.client import Client, LocalBatch

EXACT = 2**24
"""float32, in which token ids are sent, holds every smaller whole number."""


@dataclass(frozen=True)
class TopKSize:
    """The size of top-k predictions.

    Attributes:
        samples: number of public samples.
        tokens: number of tokens of each answer, counted from its first.
        top: k: number of the likeliest tokens whose probabilities are kept.
    """

    samples: int
    tokens: int
    top: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of :meth:`TopKPredictions.tensors`; the same for all vocabularies."""
        cube = (self.samples, self.tokens, self.top)
        return {"public.probabilities": cube, "public.tokens": cube, "public.loss": (self.samples,)}


@dataclass(frozen=True)
class TopKPredictions:
    """Top-k predictions of one model for public samples.

    Attributes:
        probabilities: (samples, tokens, top) of the likeliest tokens, made to sum to 1; 0 beyond an answer's end, and
            where the vocabulary is smaller than ``top``.
        tokens: (samples, tokens, top) long, their ids in the model's own vocabulary.
        loss: (samples,) the negative log-likelihood of each whole answer in nats. Unlike the mean over its tokens, it
            can be compared across tokenizers.
    """

    probabilities: Tensor
    tokens: Tensor
    loss: Tensor

    @classmethod
    def of(cls, client: Client, batches: Sequence[LocalBatch], *, mix: SlotWeights, size: TopKSize) -> TopKPredictions:
        """Return a model's predictions of the answers of public samples.

        Args:
            client: whose model, without dropout.
            batches: ``size.samples`` samples.
            mix: how its slots are mixed.
            size: how much to keep.
        """
        probabilities = torch.zeros(size.samples, size.tokens, size.top)
        tokens = torch.zeros(size.samples, size.tokens, size.top, dtype=torch.long)
        loss = torch.zeros(size.samples)
        passed = 0
        for batch in batches:
            answers = client.predict(batch, mix=mix)
            each = F.cross_entropy(answers.logits.float(), answers.targets, reduction="none").cpu()
            rows, steps = _places(batch)
            loss.index_add_(0, passed + rows, each)
            kept = steps < size.tokens
            logits, ids = answers.logits.float().cpu()[kept].topk(min(size.top, answers.logits.shape[1]))
            at = passed + rows[kept], steps[kept]
            probabilities[*at, : ids.shape[1]] = logits.softmax(-1)
            tokens[*at, : ids.shape[1]] = ids
            passed += len(batch.samples)
        return cls(probabilities, tokens, loss)

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], *, vocabulary: int, sender: str) -> TopKPredictions:
        """Return received predictions, sent as :meth:`tensors`.

        Args:
            tensors: of the right shapes, which the wire has checked.
            vocabulary: number of token ids of the sender's model.
            sender: for the error text.

        Raises:
            WireError: a token id is not one, or probabilities are not.
        """
        probabilities, ids, loss = (tensors[f"public.{name}"] for name in ("probabilities", "tokens", "loss"))
        if bool(((ids != ids.round()) | (ids < 0) | (ids >= min(vocabulary, EXACT))).any()):
            raise WireError(f"{sender} sent token ids that are not whole numbers from 0 to {vocabulary - 1}")
        if bool((probabilities < 0).any()) or bool((probabilities.sum(-1) > 1 + 1e-4).any()):
            raise WireError(f"{sender} sent probabilities that are negative or sum to more than 1")
        if bool((loss < 0).any()):
            raise WireError(f"{sender} sent the loss {float(loss.min()):g}; expected no negative ones")
        return cls(probabilities, ids.long(), loss)

    @classmethod
    def best(cls, predictions: Sequence[TopKPredictions]) -> TopKPredictions:
        """Return, for each sample, the prediction with the lowest loss.

        Args:
            predictions: of several models with one vocabulary, of the same samples.
        """
        losses = torch.stack([each.loss for each in predictions])
        at = losses.argmin(0), torch.arange(losses.shape[1])
        return cls(
            torch.stack([each.probabilities for each in predictions])[at],
            torch.stack([each.tokens for each in predictions])[at],
            losses[at],
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are communicated, by the names of :meth:`TopKSize.shapes`."""
        return {
            "public.probabilities": self.probabilities,
            "public.tokens": self.tokens.float(),
            "public.loss": self.loss,
        }

    def dense(self, batches: Sequence[LocalBatch], *, vocabulary: int, chosen: Tensor) -> list[Tensor]:
        """Return (n, V) probabilities for each batch, as :class:`TeacherPredictions` has them.

        Args:
            batches: the samples as the model that made the predictions reads them.
            vocabulary: V.
            chosen: (samples,) bool; the others' rows are 0.
        """
        result, passed = [], 0
        for batch in batches:
            rows, steps = _places(batch)
            probabilities = torch.zeros(len(rows), vocabulary)
            kept = (steps < self.tokens.shape[1]) & chosen[passed + rows]
            at = passed + rows[kept], steps[kept]
            probabilities[kept] = probabilities[kept].scatter_add(1, self.tokens[at], self.probabilities[at])
            result.append(probabilities.to(batch.inputs.labels.device))
            passed += len(batch.samples)
        return result


def _places(batch: LocalBatch) -> tuple[Tensor, Tensor]:
    """Return the row of each answer token in a batch, and its number within the answer."""
    rows = (batch.inputs.labels.cpu() != IGNORED).nonzero()[:, 0].contiguous()
    return rows, torch.arange(len(rows)) - torch.searchsorted(rows, rows)
