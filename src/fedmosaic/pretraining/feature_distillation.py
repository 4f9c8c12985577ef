"""Feature distillation: a teacher of another family pulls a student's hidden states to its own (FitNets, 1412.6550).

    loss = mean over points and positions of |U norm(h_student) - norm(h_teacher)|² / d

``norm`` is a layer norm without weights, U a linear map per point that is thrown away afterwards. Points are both ends
of each block's last layer, where Co-LoRA sits; positions are image tokens and those that predict an answer, which exist
in every tokenizer. Families that were pretrained apart on so little share hardly a direction of their hidden states;
large ones, which have read the same web, do. See docs/decisions/0009-base-models-that-are-alike.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.models.base import IGNORED, Batch
from fedmosaic.models.special_tokens import IMAGE_ID
from fedmosaic.models.tiny import TinyModel

BLOCKS = 2


class FeatureDistillation(nn.Module):
    """The maps from a student's hidden states to a teacher's, and the loss.

    Args:
        teacher: frozen.
        student: in training.
    """

    def __init__(self, teacher: TinyModel, student: TinyModel) -> None:
        super().__init__()
        self._teacher, self._student = (teacher,), (student,)  # in tuples: they are no parts of this module
        self._seen: list[Tensor] = []
        self.maps = nn.ModuleList(nn.Linear(_width(student), _width(teacher)) for _ in range(2 * BLOCKS))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Read the student's hidden states in the pass inside the block, for :meth:`loss`."""
        with _reading(self._student[0]) as self._seen:
            yield
        self._seen = []

    def loss(self, dialogues: Sequence[Dialogue], batch: Batch) -> Tensor:
        """Return how far the student is from the teacher, about 1 if it knows nothing (a scalar).

        Args:
            dialogues: at least one.
            batch: made of them for the student, which has just computed it inside :meth:`watching`.
        """
        assert self._seen, "compute the batch inside watching()"
        teacher, seen = self._teacher[0], tuple(self._seen)
        own = teacher.collate_dialogues(dialogues)
        own.vision["features"] = batch.vision["features"]  # both see the same noise
        with torch.no_grad(), _reading(teacher) as wanted:
            teacher.hidden_states(own)
        here, there = meeting(batch), meeting(own)
        distances = [
            F.mse_loss(points(_normed(said[here])), _normed(aim[there]))
            for points, said, aim in zip(self.maps, seen, wanted, strict=True)
        ]
        return torch.stack(distances).mean()


def meeting(batch: Batch) -> Tensor:
    """Return (B, T) bool: image tokens, and positions from which an answer's first token is predicted.

    Two models' batches of the same dialogues have equally many, in the same order.
    """
    answer = batch.labels != IGNORED
    predicts = F.pad(answer[:, 1:] & ~answer[:, :-1], (0, 1), value=False)
    return (batch.input_ids == IMAGE_ID) | predicts


def _width(model: TinyModel) -> int:
    config: Any = model.module.config.text_config
    return int(config.hidden_size)


def _normed(hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:])


@contextmanager
def _reading(model: TinyModel) -> Iterator[list[Tensor]]:
    """Collect input and output of the last layer of every block of the pass inside the block."""
    layers: Any = model.decoder.layers
    ends = [layers[(block + 1) * len(layers) // BLOCKS - 1] for block in range(BLOCKS)]
    seen: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        seen.extend((inputs[0], output if isinstance(output, Tensor) else output[0]))

    handles = [layer.register_forward_hook(look) for layer in ends]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
