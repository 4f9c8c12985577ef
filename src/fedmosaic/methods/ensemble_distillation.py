"""Shared by the server halves of distillation methods: the clients of each architecture as teachers and students.

As in the papers (FedDF, arXiv 2006.07242; PerAda; TAKFL), students have a learning rate of their own, which decays, and
of a student's weights on the way those are kept that answer other public samples best, from which it has not learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedmosaic.config import TrainingSettings
from fedmosaic.methods.base import MethodSettings, ServerState
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training.client import Client, LocalBatch
from fedmosaic.training.distillation import (
    DistillationTargets,
    EnsembleMean,
    TeacherPredictions,
    distil,
    distillation_targets,
    ensemble_predictions,
)
from fedmosaic.training.losses import cross_entropy

_PUBLIC_SHARE = 0.2
_HELD_OUT_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class DistillationSettings(MethodSettings):
    """Settings of all methods that distil on public samples."""

    public_samples: Annotated[int, Field(ge=1)] | None = None
    """Of each round, seen once; None: a fifth of what a client trains on in it, the study's 80 for 400."""
    server_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.3
    """Learning rate of the server's students, as a factor of the clients'; chosen on validation samples."""

    def public_count(self, training: TrainingSettings) -> int:
        """Return the number of public samples that a round learns from.

        Args:
            training: of the clients.
        """
        return self.public_samples or max(1, round(_PUBLIC_SHARE * training.steps * training.batch_size))

    def held_out_batches(self, training: TrainingSettings) -> int:
        """Return the number of batches of further public samples, on which students are evaluated.

        Args:
            training: of the clients.
        """
        return max(1, round(_HELD_OUT_SHARE * self.public_count(training) / training.batch_size))

    def public_needed(self, training: TrainingSettings) -> int:
        """Return the number of samples to learn from and held out. See :meth:`MethodSettings.public_needed`."""
        return self.public_count(training) + self.held_out_batches(training) * training.batch_size


def by_architecture(uploads: Uploads) -> dict[str, list[int]]:
    """Return the clients of each architecture, in ascending order.

    Args:
        uploads: of a round.
    """
    groups: dict[str, list[int]] = {}
    for client, upload in uploads.items():
        groups.setdefault(upload.architecture, []).append(client)
    return groups


class EnsembleDistiller:
    """Distils ensembles of clients on the server: the clients of each architecture as teachers, each mean as student.

    Args:
        uploads: the round's, with each client's communicated slot.
        state: gives the models.
        settings: how many samples, and the students' learning rate; a quarter as many are held out beside them.
        slot: name of the communicated slot, with which all teach and learn.

    Attributes:
        groups: the clients of each architecture.
        students: the architectures of which a client will receive something.
        batches: the public samples as the models of each architecture read them.
    """

    def __init__(self, uploads: Uploads, state: ServerState, settings: DistillationSettings, slot: str) -> None:
        self.groups = by_architecture(uploads)
        self.students = list(dict.fromkeys(uploads[client].architecture for client in uploads.receivers))
        self._uploads = uploads
        self._state = state
        self._rate = settings.server_rate
        self._slot = slot
        readers = {architecture: self._model(architecture) for architecture in self.groups}
        self._bases = {architecture: reader.base for architecture, reader in readers.items()}
        self.batches: dict[str, list[LocalBatch]] = {}
        self._held_out: dict[str, list[LocalBatch]] = {}
        for architecture, reader in readers.items():
            self.batches[architecture], self._held_out[architecture] = _public_batches(reader, settings)

    def predictions_by_architecture(
        self, *, temperature: float, mean_of: EnsembleMean
    ) -> dict[str, TeacherPredictions]:
        """Return the predictions of the clients of each architecture, with the weights that they uploaded.

        Args:
            temperature: T.
            mean_of: what is averaged over the clients of an architecture.

        Returns:
            By architecture.
        """
        return {
            architecture: self.predictions(
                architecture,
                [self._uploads[client].tensors for client in clients],
                temperature=temperature,
                mean_of=mean_of,
            )
            for architecture, clients in self.groups.items()
        }

    def predictions(
        self,
        architecture: str,
        teachers: Sequence[Mapping[str, Tensor]],
        *,
        temperature: float,
        mean_of: EnsembleMean = "probabilities",
    ) -> TeacherPredictions:
        """Return the mean prediction of models of one architecture with the given weights.

        Args:
            architecture: its name.
            teachers: weights of the communicated slot of each model.
            temperature: T.
            mean_of: what is averaged over the models.
        """
        teacher, batches = self._model(architecture), self.batches[architecture]
        return ensemble_predictions(
            teacher, teachers, batches, slot=self._slot, temperature=temperature, mean_of=mean_of
        )

    def targets(
        self, architecture: str, predictions: Sequence[TeacherPredictions], *, temperature: float, strength: float = 1.0
    ) -> DistillationTargets:
        """Return predictions as targets in the tokens of a student.

        Args:
            architecture: the student's.
            predictions: of the teachers.
            temperature: T.
            strength: factor of their term in the loss.
        """
        base, batches = self._bases[architecture], self.batches[architecture]
        return distillation_targets(predictions, base, batches, temperature=temperature, strength=strength)

    def learn(
        self, architecture: str, start: Mapping[str, Tensor], targets: Sequence[DistillationTargets]
    ) -> dict[str, Tensor]:
        """Return a student's best weights of those at the start, half-way and at the end.

        It starts with fresh optimiser moments.

        Args:
            architecture: the student's.
            start: its initial weights.
            targets: the loss is the sum of their terms.
        """
        student, batches = self._model(architecture), self.batches[architecture]
        student.adapter.load_slot(self._slot, start)
        steps = (len(batches) // 2, len(batches))
        learned = distil(student, batches, targets, slot=self._slot, decay=True, snapshots_after=steps)
        return self.best(architecture, [start, *learned])

    def best(self, architecture: str, candidates: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the weights with the least cross-entropy on the held-out public samples' answers.

        Args:
            architecture: of the weights.
            candidates: weights of the communicated slot, at least one.
        """
        if len(candidates) == 1:
            return dict(candidates[0])
        model, losses = self._model(architecture), []
        for tensors in candidates:
            model.adapter.load_slot(self._slot, tensors)
            losses.append(sum(self._held_out_loss(model, batch) for batch in self._held_out[architecture]))
        return dict(candidates[losses.index(min(losses))])

    def _held_out_loss(self, model: Client, batch: LocalBatch) -> float:
        return len(batch.samples) * float(cross_entropy(model.predict(batch, mix=self._slot)))

    def _model(self, architecture: str) -> Client:
        return self._state.trainee(self.groups[architecture][0], rate=self._rate)


def _public_batches(reader: Client, settings: DistillationSettings) -> tuple[list[LocalBatch], list[LocalBatch]]:
    """Return a round's public samples as a model reads them: those to learn from, and those held out."""
    training = reader.settings.training
    count, size = settings.public_count(training), training.batch_size
    batches = reader.public_batches(settings.public_needed(training))
    whole, rest = divmod(count, size)
    if not rest:
        return batches[:whole], batches[whole:]
    # one batch has samples of both kinds: from there on they are cut anew
    samples = [sample for batch in batches[whole:] for sample in batch.samples]
    chunks = [samples[:rest], *(samples[start : start + size] for start in range(rest, len(samples), size))]
    last, *held_out = [LocalBatch(chunk, reader.base.collate(chunk)) for chunk in chunks]
    return [*batches[:whole], last], held_out


def distil_from_all(
    means: dict[int, dict[str, Tensor]], distiller: EnsembleDistiller, *, temperature: float, mean_of: EnsembleMean
) -> dict[int, dict[str, Tensor]]:
    """Return each architecture's mean after it has learned from the clients of all architectures.

    Args:
        means: by client, the mean of its architecture.
        distiller: of the round.
        temperature: T.
        mean_of: what is averaged over the clients of an architecture; over architectures probabilities are averaged.

    Returns:
        The download of each client.
    """
    predictions = list(distiller.predictions_by_architecture(temperature=temperature, mean_of=mean_of).values())
    downloads = {}
    for architecture in distiller.students:
        clients = distiller.groups[architecture]
        target = distiller.targets(architecture, predictions, temperature=temperature)
        learned = distiller.learn(architecture, means[clients[0]], [target])
        downloads.update(dict.fromkeys(clients, learned))
    return downloads
