"""Where a round starts if a client does not take up all that it receives."""

from __future__ import annotations

from torch import Tensor

from fedmosaic.methods.uploads import Tensors


def moved_towards(received: Tensors, own: Tensors, rho: float) -> dict[str, Tensor]:
    """Return (1 - rho) own + rho received, on the devices of the first.

    Args:
        received: named and shaped as ``own``.
        own: what the client has trained.
        rho: 0 for its own, bit for bit, 1 for what was received.
    """
    return {name: tensor.lerp(received[name].to(tensor), rho) for name, tensor in own.items()}
