"""Hetero-SSFL (Makhija et al., 2022, arXiv 2205.12493), adapted to vision-language models that are trained on answers.

Client k, whose representations of n public samples are the rows of Phi_k, and what the server made of the last round's:

    K_k   = Phi_k Phi_k^T                                                       (n, n), after training
    loss  = CE + mu (1 - CKA(K_k[b, b], K[b, b]))                               b: the next batch of public samples
    CKA(K, L) = <HKH, HLH> / (||HKH|| ||HLH||),   H = I - 1/n                   through which gradients flow

Server:

    K = sum_j w_j K_j,   w_j = 1 / (N ||H K_j H||)

Round 1 has no K, so it is plain CE. Nothing but Gram matrices is sent, so models may differ in everything. Original:
local losses are self-supervised, on unlabelled samples, and the public set is fixed. Here the local loss is that of the
answers, a representation is what the head reads where the answer is predicted, and every round has other public samples
(a K is compared on those of which it was made). The weights keep a model of large activations from dominating the mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Adapter, Slot, TensorShapes
from fedmosaic.config import RunSettings, TrainingSettings
from fedmosaic.errors import SettingsError
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.training import Budget, Client, LocalBatch

_FEWEST = 3
"""Samples that can be alike in different ways: the CKA of two is always 1, and of one it is 0 / 0."""


@dataclass(frozen=True, kw_only=True)
class HeteroSsflSettings(MethodSettings):
    """Values of our choice; the paper's are not known to us (docs/method-facts.md#hetero-ssfl)."""

    mu: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Strength of the alignment."""
    public_samples: Annotated[int, Field(ge=_FEWEST)] = 64
    """n of a round."""

    def public_needed(self, training: TrainingSettings) -> int:
        """Return n, whatever a client trains on. See :meth:`MethodSettings.public_needed`."""
        return self.public_samples


class HeteroSsfl(Method[HeteroSsflSettings]):
    """One local LoRA per client; representations of public samples are aligned."""

    name = "hetero-ssfl"
    title = "Hetero-SSFL"
    slots = (Slot("local", communicated=False),)
    answers_with = "local"
    heterogeneity = "architectures and adapters"
    Settings = HeteroSsflSettings

    @property
    def needed(self) -> Collection[str]:
        """The Gram matrix. See :meth:`Method.needed`."""
        return ("gram",)

    def check(self, settings: RunSettings) -> None:
        """Refuse batches too small to align anything. See :meth:`Method.check`."""
        if (size := settings.training.batch_size) < _FEWEST:
            raise SettingsError(
                f"training.batch_size is {size}, but {self.title} compares the public samples of a batch with each "
                f"other; set {_FEWEST} or more"
            )

    def receive(self, client: Client, download: Tensors) -> None:
        """Keep the common Gram matrix for training. See :meth:`Method.receive`."""
        client.memory = {"common": download["gram"]} if download else {}

    @property
    def exchange_changes_answers(self) -> bool:
        """The common Gram matrix acts through training only. See :meth:`Method.exchange_changes_answers`."""
        return False

    def train(self, client: Client, budget: Budget) -> None:
        """Train on the answers and the alignment; then compare this round's public samples with each other.

        See :meth:`Method.train`.
        """
        references: Sequence[Reference | None] = self._references(client) or [None]
        for batch, reference in zip(client.batches(budget), cycle(references), strict=False):

            def objective(batch: LocalBatch = batch, reference: Reference | None = reference) -> Tensor:
                loss = client.loss(batch, mix="local")
                if reference is None:
                    return loss
                embeddings = client.answers(reference.batch, mix="local").embeddings
                return loss + self.settings.mu * (1 - cka(gram(embeddings), reference.gram))

            client.descend(objective, batch, slots=("local",))
        public = client.public_batches(self.settings.public_samples)
        client.memory = {"gram": gram(torch.cat([client.predict(each, mix="local").embeddings for each in public]))}

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The Gram matrix, and no weights. See :meth:`Method.upload`."""
        return dict(client.memory)

    def upload_shapes(self, adapter: Adapter) -> TensorShapes:
        """The Gram matrix's. See :meth:`Method.upload_shapes`."""
        return {"gram": (self.settings.public_samples, self.settings.public_samples)}

    def download_shapes(self, adapter: Adapter) -> TensorShapes:
        """The Gram matrix's. See :meth:`Method.download_shapes`."""
        return self.upload_shapes(adapter)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average the Gram matrices, each at unit norm. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=dict.fromkeys(uploads, self._common(uploads)))

    def initial_download(
        self, architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads
    ) -> dict[str, Tensor]:
        """The same matrix, which fits every model. See :meth:`Method.initial_download`."""
        return self._common(uploads)

    def _common(self, uploads: Uploads) -> dict[str, Tensor]:
        """The mean over the clients that trained in the last round; the others' matrices are of other samples."""
        last = uploads.since(max(upload.round for upload in uploads.values()))
        return {"gram": torch.stack([unit(grams) for grams in last.stack("gram")]).mean(0)}

    def _references(self, client: Client) -> list[Reference]:
        """The last round's public samples in batches, and what was received of each; none in the first round."""
        if "common" not in client.memory:
            return []
        batches = self._comparable(client, client.public_batches(self.settings.public_samples, round_=client.round - 1))
        common, references, start = client.memory["common"], [], 0
        for batch in batches:
            here = slice(start, start + len(batch.samples))
            references.append(Reference(batch, common[here, here].to(client.base.device)))
            start = here.stop
        return references

    def _comparable(self, client: Client, batches: list[LocalBatch]) -> list[LocalBatch]:
        """The batches, the last one as part of the one before it if it has too few samples."""
        if len(batches) == 1 or len(batches[-1].samples) >= _FEWEST:
            return batches
        *whole, before, last = batches
        samples = [*before.samples, *last.samples]
        return [*whole, LocalBatch(samples, client.base.collate(samples))]


@dataclass(frozen=True)
class Reference:
    """Some public samples and their common Gram matrix.

    Attributes:
        batch: the n samples.
        gram: (n, n).
    """

    batch: LocalBatch
    gram: Tensor


def gram(embeddings: Tensor) -> Tensor:
    """Return the inner products of representations.

    Args:
        embeddings: (n, d).

    Returns:
        (n, n) in float32.
    """
    rows = embeddings.float()
    return rows.matmul(rows.T)


def centred(grams: Tensor) -> Tensor:
    """Return HKH of a Gram matrix: that of the representations without their mean.

    Args:
        grams: (n, n).

    Returns:
        (n, n).
    """
    return grams - grams.mean(0, keepdim=True) - grams.mean(1, keepdim=True) + grams.mean()


def unit(grams: Tensor) -> Tensor:
    """Return a Gram matrix scaled so that ||HKH|| is 1.

    Args:
        grams: (n, n).

    Returns:
        (n, n); finite also where all representations are alike, so that HKH is zero or a rounding error.
    """
    size: Tensor = centred(grams).norm()
    known = torch.finfo(grams.dtype)
    return grams / size.clamp(min=(known.eps * grams.detach().norm()).clamp(min=known.tiny))


def cka(one: Tensor, other: Tensor) -> Tensor:
    """Return the centred kernel alignment of two Gram matrices.

    Args:
        one: (n, n).
        other: (n, n).

    Returns:
        (), 1 if they are equal up to scale, else less.
    """
    return (centred(unit(one)) * centred(unit(other))).sum()
