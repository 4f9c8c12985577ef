"""Dropout on the adapters' input. On a CPU torch draws its mask in doubles, which takes a sixth of a training step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 2**16


def dropout(x: Tensor, probability: float) -> Tensor:
    """Return x with each entry zeroed with a probability, and scaled so that the mean stays.

    On a CPU an entry's fate takes 16 random bits, which rounds the probability to a multiple of 2^-16; the scale is
    that of the rounded one.

    Args:
        x: any shape, floating point.
        probability: at least 0 and below 1.
    """
    if x.device.type != "cpu":
        return F.dropout(x, probability)
    dropped = min(round(probability * _LEVELS), _LEVELS - 1)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    return x * bits.ge(dropped - _LEVELS // 2).to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))
