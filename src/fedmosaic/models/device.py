"""Where models compute and in what: the device that ``auto`` takes, and one line for what cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fedmosaic.errors import RunError, SettingsError

AUTO = "auto"
"""The first CUDA device if this machine has one, else the CPU."""

_GIB = 2**30


def taken(device: torch.device | str) -> torch.device | str:
    """Return the device that a name stands for.

    Args:
        device: torch's device or its name, or ``auto``.
    """
    if device != AUTO:
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def described(device: torch.device | str) -> str:
    """Return a device's name, with the card's where it is one: ``cuda (NVIDIA H200, 139 GiB)``.

    Args:
        device: one that is there.
    """
    kind = torch.device(device)
    if kind.type != "cuda":
        return str(device)
    card = torch.cuda.get_device_properties(kind)
    return f"{device} ({card.name}, {card.total_memory / _GIB:.0f} GiB)"


def check_device(device: torch.device | str) -> None:
    """Make sure that a device exists and can compute, before anything is loaded for it.

    Args:
        device: torch's device or its name, e.g. ``cuda:0``, or ``auto``.

    Raises:
        SettingsError: torch does not know the name, or this machine has no such device.
    """
    try:
        torch.ones(1, device=taken(device)).add(1).item()
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError ...: each backend has its own
        raise SettingsError(
            f"device={str(device)!r} cannot be used here ({_reason(error)}); this machine has {', '.join(_present())}; "
            "--device auto takes what is there"
        ) from None


def check_dtype(device: torch.device | str, dtype: torch.dtype) -> None:
    """Make sure that a device computes in a dtype itself, rather than not at all or by way of another one.

    Args:
        device: one that is there.
        dtype: of a model's weights.

    Raises:
        SettingsError: it does not; names dtypes in which it does.
    """
    if reason := _lack(device, dtype):
        names = (torch.bfloat16, torch.float16, torch.float32)
        fit = [_name(each) for each in names if each != dtype and not _lack(device, each)]
        raise SettingsError(
            f"model.dtype={_name(dtype)} cannot be used on {described(device)} ({reason}); it computes in "
            f"{' and '.join(fit)}: set model.dtype={fit[0] if fit else 'float32'}"
        )


@contextmanager
def within_memory(device: torch.device | str, doing: str) -> Iterator[None]:
    """Turn a device's lack of memory inside the block into one line that says what would need less.

    Args:
        device: where the block computes.
        doing: what it does, e.g. ``client 3 trains``.

    Raises:
        RunError: the memory does not suffice.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the memory of {described(taken(device))} does not suffice while {doing} ({_reason(error)}); less is "
            "needed with, in this order: training.micro_batch=1 (or evaluation.batch_size below 64), "
            "training.recompute=true, model.dtype=bfloat16, model.offload=true, model.quantisation=nf4"
        ) from None


def _lack(device: torch.device | str, dtype: torch.dtype) -> str:
    """Say why a device does not compute in a dtype; empty if it does."""
    kind = torch.device(device)
    if kind.type == "cuda" and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "the card has no bfloat16 arithmetic"
    try:
        matrix = torch.ones(2, 2, device=kind, dtype=dtype)
        torch.softmax(matrix @ matrix, -1).sum().item()
    except Exception as error:  # each backend has its own
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).split(". ")[0][:200]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _present() -> list[str]:
    """Return the names of this machine's devices."""
    found = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        found += [f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())]
    return found
