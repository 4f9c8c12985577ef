"""Terms of the losses of several methods: cross-entropy, distillation and a proximal term."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fedmosaic.adapters import Adapter
from fedmosaic.models import AnswerLogits

Penalty = Callable[[Adapter], Tensor]
"""Gives a term of the loss (a scalar) that depends on the adapter's weights alone."""


def cross_entropy(answers: AnswerLogits) -> Tensor:
    """Return the mean cross-entropy over the answer tokens (a scalar; nats).

    Args:
        answers: logits (n, V) and targets (n,) of n answer tokens.
    """
    return F.cross_entropy(answers.logits.float(), answers.targets)


def distillation(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over tokens (a scalar; nats).

    Args:
        teacher: (n, V) logits; no gradient flows into them.
        student: (n, V) logits.
        temperature: T.
    """
    wanted, given = (F.log_softmax(each.float() / temperature, dim=-1) for each in (teacher.detach(), student))
    return temperature**2 * F.kl_div(given, wanted, reduction="batchmean", log_target=True)


def proximal(slot: str, centre: Mapping[str, Tensor], strength: float) -> Penalty:
    """Return the penalty ``strength / 2 * ||slot - centre||^2``, whose gradient is ``strength * (slot - centre)``.

    Args:
        slot: the slot that is penalised.
        centre: values by the names of the slot's tensors; copies, so that they stay constant.
        strength: factor of the penalty.
    """

    def penalty(adapter: Adapter) -> Tensor:
        distances = [(tensor - centre[name]).square().sum() for name, tensor in adapter.parameters(slot).items()]
        return strength / 2 * torch.stack(distances).sum()

    return penalty
