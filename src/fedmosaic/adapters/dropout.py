"""Dropout on the adapters' input. On a CPU torch draws its mask in doubles, which takes a sixth of a training step."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    return x * _factors(x.shape, probability, x.dtype)


class Draws:
    """One client's random draws where several clients compute at once: what torch's generators would have given it.

    Args:
        devices: where it draws, beside the CPU.

    Attributes:
        generators: one for each device, by its name; the CPU's is ``cpu``.
    """

    def __init__(self, devices: Sequence[str] = ()) -> None:
        self.generators = {name: torch.Generator(name) for name in ("cpu", *devices)}

    def keep(self) -> None:
        """Take over the states of torch's generators."""
        for name, generator in self.generators.items():
            generator.set_state(_state(name))

    def give(self) -> None:
        """Set torch's generators to these states."""
        for name, generator in self.generators.items():
            _set_state(name, generator.get_state())

    def states(self) -> list[Tensor]:
        """Return the states, to go back to them with :meth:`load`."""
        return [generator.get_state() for generator in self.generators.values()]

    def load(self, states: Sequence[Tensor]) -> None:
        """Go back to former states.

        Args:
            states: of :meth:`states`.
        """
        for generator, state in zip(self.generators.values(), states, strict=True):
            generator.set_state(state)

    def factors(self, shape: Sequence[int], probability: float, like: Tensor) -> Tensor:
        """Return what :func:`dropout` would multiply a tensor with.

        Args:
            shape: of the tensor.
            probability: at least 0 and below 1.
            like: of its device and dtype.
        """
        if like.device.type == "cpu":
            return _factors(shape, probability, like.dtype, self.generators["cpu"])
        name = str(like.device)
        others, generator = _state(name), self.generators[name]
        _set_state(name, generator.get_state())
        try:
            return F.dropout(like.new_ones(*shape), probability)
        finally:
            generator.set_state(_state(name))
            _set_state(name, others)


def _factors(
    shape: Sequence[int], probability: float, dtype: torch.dtype, generator: torch.Generator | None = None
) -> Tensor:
    """Return 0 or the scale for each entry, on the CPU."""
    dropped, count = min(round(probability * _LEVELS), _LEVELS - 1), math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[:count].view(*shape)
    return bits.ge(dropped - _LEVELS // 2).to(dtype).mul_(_LEVELS / (_LEVELS - dropped))


def _state(device: str) -> Tensor:
    if device == "cpu":
        return torch.get_rng_state()
    state: Tensor = torch.get_device_module(device).get_rng_state(device)
    return state


def _set_state(device: str, state: Tensor) -> None:
    if device == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device).set_rng_state(state, device)
