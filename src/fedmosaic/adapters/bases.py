"""Initial weights: the same for all clients of an architecture, whatever the order in which they are asked for."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedmosaic.adapters.placement import Target
from fedmosaic.errors import SettingsError
from fedmosaic.seeding import generator


def lora_pair(target: Target, rank: int, *, seed: int, architecture: str) -> tuple[Tensor, Tensor]:
    """Return initial A and B of conventional LoRA: A Kaiming-uniform with a = sqrt(5) as in PEFT, B zero.

    Args:
        target: the adapted linear.
        rank: r.
        seed: of the draw.
        architecture: name of the base model's architecture; equal names give equal draws.

    Returns:
        A (rank, in_features) and B (out_features, rank).
    """
    down = torch.empty(rank, target.in_features)
    draw = generator(seed, "adapter", architecture, target.by_layer, "A")
    nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=draw)
    return down, torch.zeros(target.out_features, rank)


def colora_pair(target: Target, rank: int, *, seed: int, architecture: str) -> tuple[Tensor, Tensor]:
    """Return random frozen bases of Co-LoRA: A with orthonormal rows, B with orthonormal columns.

    With these, B P A covers an update space of rank**2 dimensions and ``||B P A|| = ||P||`` (FedMosaic, theorem 1).

    Args:
        target: the adapted linear.
        rank: r.
        seed: of the draw.
        architecture: name of the base model's architecture; equal names give equal draws.

    Returns:
        A (rank, in_features) and B (out_features, rank).

    Raises:
        SettingsError: the rank is larger than a width of the linear.
    """
    least = min(target.in_features, target.out_features)
    if rank > least:
        raise SettingsError(
            f"rank={rank} but {target.path} is {target.in_features} -> {target.out_features}: Co-LoRA's frozen bases "
            f"can have at most {least} orthonormal directions there; lower the rank on all clients or leave this "
            "module out with `modules`"
        )

    def columns(features: int, letter: str) -> Tensor:
        draw = generator(seed, "adapter", architecture, target.by_layer, "co-lora", letter)
        normal = torch.randn(features, rank, generator=draw, dtype=torch.float64)
        orthonormal: Tensor = torch.linalg.qr(normal).Q
        return orthonormal.float()

    return columns(target.in_features, "A").t().contiguous(), columns(target.out_features, "B").contiguous()
