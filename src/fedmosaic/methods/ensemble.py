"""What the server halves of distillation methods share: the clients of each architecture as teachers and students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedmosaic.methods.base import MethodSettings, ServerState, Uploads
from fedmosaic.training.client import Client, LocalBatch
from fedmosaic.training.distillation import Lesson, Pooled, Targets, distil, lesson, targets


@dataclass(frozen=True, kw_only=True)
class DistillationSettings(MethodSettings):
    """What all methods that distil on public samples can be told."""

    public_samples: Annotated[int, Field(ge=1)] = 80
    """Of each round, seen once; the study's number."""
    server_learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Of students; None: the clients'."""


def by_architecture(uploads: Uploads) -> dict[str, list[int]]:
    """Return the clients of each architecture, in ascending order."""
    groups: dict[str, list[int]] = {}
    for client, upload in uploads.items():
        groups.setdefault(upload.architecture, []).append(client)
    return groups


class Classroom:
    """The public samples of a round, and the server's models of every architecture, which teach and learn on them.

    Args:
        uploads: the round's; each client's travelling slot.
        state: gives the models.
        settings: how many samples, and the students' learning rate.
        slot: the name of the travelling slot, in which all teach and learn.

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
        self._rate = settings.server_learning_rate
        self._slot = slot
        readers = {architecture: self._model(architecture) for architecture in self.groups}
        self._bases = {architecture: reader.base for architecture, reader in readers.items()}
        self.batches: dict[str, list[LocalBatch]] = {
            architecture: reader.public_batches(settings.public_samples) for architecture, reader in readers.items()
        }

    def lessons(self, *, temperature: float, pooled: Pooled) -> dict[str, Lesson]:
        """Return what the clients of each architecture say, with the weights that they uploaded.

        Args:
            temperature: T.
            pooled: what is averaged over the clients of an architecture.
        """
        return {
            architecture: self.lesson(
                architecture,
                [self._uploads[client].tensors for client in clients],
                temperature=temperature,
                pooled=pooled,
            )
            for architecture, clients in self.groups.items()
        }

    def lesson(
        self,
        architecture: str,
        voters: Sequence[Mapping[str, Tensor]],
        *,
        temperature: float,
        pooled: Pooled = "probabilities",
    ) -> Lesson:
        """Return what models of one architecture with the given weights say."""
        teacher, batches = self._model(architecture), self.batches[architecture]
        return lesson(teacher, voters, batches, slot=self._slot, temperature=temperature, pooled=pooled)

    def targets(
        self, architecture: str, lessons: Sequence[Lesson], *, temperature: float, strength: float = 1.0
    ) -> Targets:
        """Return lessons as what a student of an architecture shall predict."""
        base, batches = self._bases[architecture], self.batches[architecture]
        return targets(lessons, base, batches, temperature=temperature, strength=strength)

    def learn(self, architecture: str, start: Mapping[str, Tensor], goals: Sequence[Targets]) -> dict[str, Tensor]:
        """Return what a student learns that starts from given weights, with fresh optimiser moments."""
        student = self._model(architecture)
        student.adapter.load_slot(self._slot, start)
        distil(student, self.batches[architecture], goals, slot=self._slot)
        return student.snapshot(self._slot)

    def _model(self, architecture: str) -> Client:
        return self._state.trainee(self.groups[architecture][0], learning_rate=self._rate)


def taught_by_all(
    means: dict[int, dict[str, Tensor]], room: Classroom, *, temperature: float, pooled: Pooled
) -> dict[int, dict[str, Tensor]]:
    """Let the mean of each architecture learn from the clients of all architectures.

    Args:
        means: for each client, that of its architecture.
        room: where they teach and learn.
        temperature: T.
        pooled: what is averaged over the clients of an architecture; over architectures it is probabilities.

    Returns:
        what each client receives.
    """
    lessons = list(room.lessons(temperature=temperature, pooled=pooled).values())
    downloads = {}
    for architecture in room.students:
        clients = room.groups[architecture]
        goal = room.targets(architecture, lessons, temperature=temperature)
        learned = room.learn(architecture, means[clients[0]], [goal])
        downloads.update(dict.fromkeys(clients, learned))
    return downloads
