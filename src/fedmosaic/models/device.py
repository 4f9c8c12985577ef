"""Where models compute and in what: the device that ``auto`` takes, and one line for what cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from fedmosaic.errors import RunError, SettingsError

AUTO = "auto"
"""The first CUDA device if this machine has one, else the CPU."""

GIB = 2**30

_CPU_IS_FULL = "can't allocate memory"


def listed(device: torch.device | str) -> tuple[str, ...]:
    """Return the names in a list of devices, ``cuda:0,cuda:1``; mostly there is one.

    Args:
        device: torch's device or its name, or several names with commas between them.
    """
    return tuple(name.strip() for name in str(device).split(","))


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
        device: one that is there, or several.
    """
    if len(names := listed(device)) > 1:
        return " and ".join(described(name) for name in names)
    kind = torch.device(device)
    if kind.type != "cuda":
        return str(device)
    card = torch.cuda.get_device_properties(kind)
    return f"{device} ({card.name}, {card.total_memory / GIB:.0f} GiB)"


def check_device(device: torch.device | str) -> None:
    """Make sure that a device exists and can compute, before anything is loaded for it.

    Args:
        device: torch's device or its name, e.g. ``cuda:0``, or ``auto``; or several names.

    Raises:
        SettingsError: torch does not know the name, or this machine has no such device.
    """
    if len(names := listed(device)) > 1:
        _check_list(str(device), names)
        return
    try:
        torch.ones(1, device=taken(device)).add(1).item()
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError ...: each backend has its own
        raise SettingsError(
            f"device={str(device)!r} cannot be used here ({_reason(error)}); this machine has {', '.join(_present())}; "
            "--device auto takes what is there"
        ) from None


def check_single(device: torch.device | str) -> None:
    """Make sure that one device is named, and that it can compute.

    Args:
        device: torch's device or its name, or ``auto``.

    Raises:
        SettingsError: several are named, or it is not there.
    """
    if len(names := listed(device)) > 1:
        raise SettingsError(
            f"device={str(device)!r} names {len(names)} devices, which only the clients of a run are dealt out over; "
            f"name one here, e.g. --device {names[0]}"
        )
    check_device(device)


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


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that a device's memory does not suffice.

    Args:
        error: torch's; its own type is raised for accelerators only.
    """
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and _CPU_IS_FULL in str(error))


def less_memory() -> str:
    """Return what needs less memory than a step that found too little."""
    return (
        "less is needed with, in this order: training.micro_batch=1 (or evaluation.batch_size below 64), "
        "training.recompute=true, model.dtype=bfloat16, model.offload=true, model.quantisation=nf4"
    )


@contextmanager
def within_memory(device: torch.device | str, doing: str, advice: Callable[[], str] = less_memory) -> Iterator[None]:
    """Turn a device's lack of memory inside the block into one line that says what would need less.

    Args:
        device: where the block computes.
        doing: what it does, e.g. ``client 3 trains``.
        advice: says what to do.

    Raises:
        RunError: the memory does not suffice.
    """
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise RunError(
            f"the memory of {described(taken(device))} does not suffice while {doing} ({_reason(error)}); {advice()}"
        ) from None


def _check_list(device: str, names: Sequence[str]) -> None:
    for name in names:
        if name in ("", AUTO) or names.count(name) > 1:
            raise SettingsError(
                f"device={device!r}: {name!r} cannot stand in a list of devices, or not twice; expected is one "
                "name, or different ones with commas between them: cuda:0,cuda:1"
            )
        check_device(name)


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
