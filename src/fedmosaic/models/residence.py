"""Which base models are on the device: those in use, while idle ones wait in the CPU's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn


class Resident(Protocol):
    """The part of a base model that is moved."""

    @property
    def module(self) -> nn.Module:
        """The model, with the adapter in it."""
        ...


def _move(module: nn.Module, device: torch.device) -> None:
    module.to(device)


class Residence:
    """Brings base models to a device when they compute, with the adapters in them, and takes idle ones away.

    Models leave when another one comes that is not there, except those that were used in the same turn: a graph of
    them may be waiting for its backward pass, and an optimiser hold their adapters.

    Args:
        device: where models compute.
        move: moves a module, in place.
        alone: whether each use is a turn of its own, because nothing of a model is needed after another one's pass.

    Attributes:
        device: see above.
    """

    def __init__(
        self,
        device: torch.device | str,
        move: Callable[[nn.Module, torch.device], None] = _move,
        *,
        alone: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self._move = move
        self._alone = alone
        self._there: list[Resident] = []
        self._used: list[Resident] = []

    def turn(self) -> None:
        """Begin another client's turn: whatever was used until now is idle until it is used again."""
        self._used = []

    def enter(self, model: Resident) -> None:
        """Make sure that a model is on the device.

        Args:
            model: in use from now on, until the turn ends.
        """
        if self._alone:
            self.turn()
        if model not in self._used:
            self._used.append(model)
        if model in self._there:
            return
        for idle in [each for each in self._there if each not in self._used]:
            self._move(idle.module, torch.device("cpu"))
            self._there.remove(idle)
        self._move(model.module, self.device)
        self._there.append(model)
