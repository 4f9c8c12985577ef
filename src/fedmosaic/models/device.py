"""Checking that the device of the settings exists."""

from __future__ import annotations

import torch

from fedmosaic.errors import SettingsError


def check_device(device: torch.device | str) -> None:
    """Make sure that a device exists and can compute, before anything is loaded for it.

    Args:
        device: torch's device or its name, e.g. ``cuda:0``.

    Raises:
        SettingsError: torch does not know the name, or this machine has no such device.
    """
    try:
        torch.ones(1, device=device).add(1).item()
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError ...: each backend has its own
        reason = " ".join(str(error).split()).split(". ")[0][:200]
        raise SettingsError(
            f"device={str(device)!r} cannot be used here ({reason}); this machine has {', '.join(_present())}"
        ) from None


def _present() -> list[str]:
    """Return the names of this machine's devices."""
    found = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        found += [f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())]
    return found
