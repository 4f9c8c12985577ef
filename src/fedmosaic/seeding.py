"""Random seeds that are independent of each other and of the order in which they are derived."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *names: object) -> int:
    """Return a 63-bit seed for one purpose, e.g. ``derive(0, "stream", client_id)``.

    Args:
        seed: the run's seed.
        names: the purpose; each part is converted with ``str``.
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """Return a CPU generator seeded with ``derive(seed, *names)``.

    Args:
        seed: the run's seed.
        names: the purpose, as for :func:`derive`.
    """
    import torch  # noqa: PLC0415 - takes a second to import; scenarios, which are drawn with NumPy, do without

    return torch.Generator().manual_seed(derive(seed, *names))


def rng(seed: int, *names: object) -> np.random.Generator:
    """Return a NumPy generator seeded with ``derive(seed, *names)``.

    Args:
        seed: the run's seed.
        names: the purpose, as for :func:`derive`.
    """
    return np.random.default_rng(derive(seed, *names))
