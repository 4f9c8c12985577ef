"""FedProto (Tan et al., AAAI 2022, arXiv 2105.00243), adapted to vision-language models of any base model.

    f_k(x)      = R_m h_k(x)                                   h: what the head reads where the answer is predicted
    C_k^(c)     = mean of f_k(x) over the n_k^(c) samples of the round whose answer is c
    C^(c)       = sum_k n_k^(c) C_k^(c) / sum_k n_k^(c)         server, over the clients that have c
    loss        = CE + lam * mean over samples of MSE(f_k(x), C^(c(x)))

Round 1 has no prototypes, so it is plain CE. Weights stay with the client. f_k(x) is taken from the training step in
which x was drawn last, as in the authors' code: a second pass over the samples would cost a third of the training.
Original: f is the network's own embedding, of equal size everywhere; classes are known to all; the answer is that of
the nearest prototype. Here the embedding goes through a random projection R_m to a common size, drawn from the run's
seed for each width of h; a class is the text of an answer, named by a hash of 24 bits, so that the server needs no list
of answers (a guessed answer can be checked against a hash, though); the model answers with its own head. At most
``classes`` classes are sent in either direction: those with the most samples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import Adapter, Slot, TensorShapes
from fedmosaic.data.sample import Sample
from fedmosaic.errors import WireError
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState
from fedmosaic.methods.uploads import Tensors, Upload, Uploads
from fedmosaic.models.base import output_matrix
from fedmosaic.training import Budget, Client, LocalBatch, cross_entropy

_HASHES = 2**24  # whole numbers below it are exact in float32, in which they are sent
_RECEIVED = "server."
_NAMES = ("prototypes", "classes", "counts")


@dataclass(frozen=True, kw_only=True)
class FedProtoSettings(MethodSettings):
    """Values of the paper where it has them."""

    lam: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Pull towards the prototypes."""
    dimension: Annotated[int, Field(ge=1)] = 128
    """d of a prototype."""
    classes: Annotated[int, Field(ge=1)] = 256
    """Most prototypes in a message."""


class FedProto(Method[FedProtoSettings]):
    """One local LoRA per client, pulled towards common prototypes of the answers."""

    name = "fedproto"
    title = "FedProto"
    slots = (Slot("local", communicated=False),)
    answers_with = "local"
    heterogeneity = "architectures and adapters"
    Settings = FedProtoSettings

    @property
    def needed(self) -> Collection[str]:
        """The prototypes. See :meth:`Method.needed`."""
        return _NAMES

    def receive(self, client: Client, download: Tensors) -> None:
        """Keep the common prototypes for training. See :meth:`Method.receive`."""
        client.memory.update({_RECEIVED + name: tensor for name, tensor in download.items()})

    @property
    def exchange_changes_answers(self) -> bool:
        """Prototypes act through training only. See :meth:`Method.exchange_changes_answers`."""
        return False

    def train(self, client: Client, budget: Budget) -> None:
        """Train towards the answers and their prototypes, and average the embeddings on the way.

        See :meth:`Method.train`.
        """
        memory, project = client.memory, self._projection(client)
        common = Prototypes.read({name: memory.get(_RECEIVED + name, torch.zeros(0)) for name in _NAMES})
        seen: dict[Sample, Tensor] = {}
        for batch in client.batches(budget):

            def objective(batch: LocalBatch = batch) -> Tensor:
                answers = client.answers(batch, mix="local")
                embeddings = project(answers.embeddings)
                seen.update(zip(batch.samples, embeddings.detach().cpu(), strict=True))
                classes = self._classes(client, batch.samples)
                return cross_entropy(answers) + self.settings.lam * pull(embeddings, classes, common)

            client.descend(objective, batch, slots=("local",))
        own = Prototypes.mean(seen.values(), self._classes(client, list(seen)))
        client.memory = own.tensors(self.settings.classes, self.settings.dimension)

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The prototypes and the number of samples behind each, and no weights. See :meth:`Method.upload`."""
        return dict(client.memory)

    def upload_shapes(self, adapter: Adapter) -> TensorShapes:
        """The prototypes'. See :meth:`Method.upload_shapes`."""
        rows = self.settings.classes
        return {"prototypes": (rows, self.settings.dimension), "classes": (rows,), "counts": (rows,)}

    def download_shapes(self, adapter: Adapter) -> TensorShapes:
        """The prototypes'. See :meth:`Method.download_shapes`."""
        return self.upload_shapes(adapter)

    def check_upload(self, upload: Upload) -> None:
        """Refuse counts that are none, or beyond the samples trained on. See :meth:`Method.check_upload`."""
        classes, counts = (upload.tensors[name] for name in ("classes", "counts"))
        whole = torch.stack([classes, counts])
        if bool((whole != whole.round()).any()) or bool((whole < 0).any()) or counts.sum() > upload.samples:
            raise WireError(
                f"client {upload.client} sent counts or classes that are not whole numbers from 0, or more than its "
                f"{upload.samples} samples"
            )

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average each class over the clients that have it, weighted by their samples. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=dict.fromkeys(uploads, self._common(uploads)))

    def initial_download(
        self, architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads
    ) -> dict[str, Tensor]:
        """The same prototypes, which fit every model. See :meth:`Method.initial_download`."""
        return self._common(uploads)

    def _common(self, uploads: Uploads) -> dict[str, Tensor]:
        sent = [Prototypes.read(upload.tensors) for upload in uploads.values()]
        common = Prototypes.mean(
            [mean for each in sent for mean in each.means.values()],
            [label for each in sent for label in each.means],
            [count for each in sent for count in each.counts.values()],
        )
        return common.tensors(self.settings.classes, self.settings.dimension)

    def _classes(self, client: Client, samples: Sequence[Sample]) -> list[int]:
        return [class_of(sample.answer, client.settings.seed) for sample in samples]

    def _projection(self, client: Client) -> Callable[[Tensor], Tensor]:
        """R_m: (B, width of the client's model) -> (B, d)."""
        width, dimension = output_matrix(client.base.module).in_features, self.settings.dimension
        generator = seeding.generator(client.settings.seed, "prototype projection", width)
        matrix = torch.randn(width, dimension, generator=generator) / width**0.5
        return lambda embeddings: embeddings.float() @ matrix.to(embeddings.device)


@dataclass(frozen=True)
class Prototypes:
    """Mean embeddings by class.

    Attributes:
        means: class -> (d,).
        counts: class -> number of samples that it is the mean of; the same classes in the same order.
    """

    means: Mapping[int, Tensor]
    counts: Mapping[int, float]

    @classmethod
    def mean(
        cls, embeddings: Iterable[Tensor], classes: Sequence[int], counts: Sequence[float] | None = None
    ) -> Prototypes:
        """Return the mean of each class.

        Args:
            embeddings: n of (d,).
            classes: n.
            counts: n numbers of samples that each stands for; default: 1.

        Returns:
            The prototypes.
        """
        totals: dict[int, float] = {}
        sums: dict[int, Tensor] = {}
        each = [1.0] * len(classes) if counts is None else counts
        for embedding, label, count in zip(embeddings, classes, each, strict=True):
            totals[label] = totals.get(label, 0.0) + count
            sums[label] = sums.get(label, torch.zeros_like(embedding)) + count * embedding
        return cls({label: total / totals[label] for label, total in sums.items()}, totals)

    @classmethod
    def read(cls, tensors: Tensors) -> Prototypes:
        """Return the prototypes of a message; rows without samples are left out.

        Args:
            tensors: as :meth:`tensors` returns them.
        """
        means, classes, counts = (tensors[name] for name in _NAMES)
        filled = (counts > 0).nonzero()[:, 0].tolist()
        return cls(
            {int(classes[row]): means[row] for row in filled}, {int(classes[row]): float(counts[row]) for row in filled}
        )

    def tensors(self, rows: int, dimension: int) -> dict[str, Tensor]:
        """Return the classes with the most samples as a message.

        Args:
            rows: the largest number of classes.
            dimension: d.

        Returns:
            ``prototypes`` (rows, d), ``classes`` (rows,) and ``counts`` (rows,); unused rows are zero.
        """
        chosen = sorted(self.counts, key=lambda label: (-self.counts[label], label))[:rows]
        means, classes, counts = torch.zeros(rows, dimension), torch.zeros(rows), torch.zeros(rows)
        for row, label in enumerate(chosen):
            means[row], classes[row], counts[row] = self.means[label], label, self.counts[label]
        return dict(zip(_NAMES, (means, classes, counts), strict=True))


def class_of(answer: str, seed: int) -> int:
    """Return the class of an answer, the same on all clients of a run.

    Args:
        answer: its text.
        seed: the run's.
    """
    return seeding.derive(seed, "class", answer) % _HASHES


def pull(embeddings: Tensor, classes: Sequence[int], prototypes: Prototypes) -> Tensor:
    """Return the mean squared distance to the prototypes, over those samples that have one; 0 if none has.

    Args:
        embeddings: (B, d), through which gradients flow.
        classes: B.
        prototypes: fixed.

    Returns:
        ().
    """
    known = [row for row, label in enumerate(classes) if label in prototypes.means]
    if not known:
        return embeddings.new_zeros(())
    wanted = torch.stack([prototypes.means[classes[row]] for row in known]).to(embeddings.device)
    return F.mse_loss(embeddings[known], wanted)
