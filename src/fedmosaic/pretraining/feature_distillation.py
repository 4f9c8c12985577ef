"""Feature distillation: a student's hidden states are trained towards a teacher's (FitNets, arXiv 1412.6550).

    loss = mean over points and positions of |U norm(h_student) - norm(h_teacher)|² / d

The teacher is of another family. ``norm`` is a layer norm without weights, U a linear map per point that is discarded
afterwards. Points are input and output of each block's last layer, where Co-LoRA is placed; positions are image tokens
and those that predict an answer, which exist in every tokenizer. Families that were pretrained separately on so little
data have hardly any common directions in their hidden states; large ones, trained on the same web text, do. See
docs/decisions/0009-base-models-that-are-alike.md.
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
        self._teacher, self._student = (teacher,), (student,)  # in tuples: not submodules of this module
        self._recorded_states: list[Tensor] = []
        self.maps = nn.ModuleList(nn.Linear(_width(student), _width(teacher)) for _ in range(2 * BLOCKS))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the student's hidden states in the pass inside the block, for :meth:`loss`."""
        with _recorded(self._student[0]) as self._recorded_states:
            yield
        self._recorded_states = []

    def loss(self, dialogues: Sequence[Dialogue], batch: Batch) -> Tensor:
        """Return the distance between student and teacher, about 1 for independent states (a scalar).

        Args:
            dialogues: at least one.
            batch: made of them for the student, which has just computed it inside :meth:`recording`.
        """
        assert self._recorded_states, "compute the batch inside recording()"
        teacher, states = self._teacher[0], tuple(self._recorded_states)
        own = teacher.collate_dialogues(dialogues)
        own.vision["features"] = batch.vision["features"]  # both get the same noise
        with torch.no_grad(), _recorded(teacher) as wanted:
            teacher.hidden_states(own)
        here, there = matched_positions(batch), matched_positions(own)
        distances = [
            F.mse_loss(points(_normed(state[here])), _normed(target[there]))
            for points, state, target in zip(self.maps, states, wanted, strict=True)
        ]
        return torch.stack(distances).mean()


def matched_positions(batch: Batch) -> Tensor:
    """Return (B, T) bool: image tokens, and positions from which an answer's first token is predicted.

    Two models' batches of the same dialogues have equally many, in the same order.

    Args:
        batch: with answers.
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
def _recorded(model: TinyModel) -> Iterator[list[Tensor]]:
    """Collect input and output of the last layer of every block in the pass inside the ``with`` block."""
    layers: Any = model.decoder.layers
    ends = [layers[(block + 1) * len(layers) // BLOCKS - 1] for block in range(BLOCKS)]
    states: list[Tensor] = []

    def record(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        states.extend((inputs[0], output if isinstance(output, Tensor) else output[0]))

    handles = [layer.register_forward_hook(record) for layer in ends]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()
