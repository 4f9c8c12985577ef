"""What a device can do, and how long it takes: time and memory of calls, and the rate of one large product."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}
"""Dense bf16 FLOP/s by makers' data sheets; the first name that is part of the card's counts."""


def name_of(device: torch.device) -> str:
    """Return the card's name, or the device's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def peak_of(device: torch.device) -> float | None:
    """Return the card's peak bf16 FLOP/s; None if it is not known."""
    return next((peak for name, peak in PEAKS.items() if name in name_of(device)), None)


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all that it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the wall time of one call."""
    wait_for(device)
    start = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - start


def in_turn(calls: Mapping[str, Callable[[], object]], device: torch.device, *, repeats: int) -> dict[str, list[float]]:
    """Return each call's seconds; they take turns, and the first three rounds do not count."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 3):
        for name, call in calls.items():
            found[name].append(seconds(call, device))
    return {name: values[3:] for name, values in found.items()}


def product_rate(device: torch.device, *, width: int, dtype: torch.dtype = torch.bfloat16) -> float:
    """Return FLOP/s of a square product, the best that one can hope for here."""
    a, b = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    times = in_turn({"product": lambda: a @ b}, device, repeats=10)["product"]
    return 2 * width**3 / median(times)


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """Return the most bytes that were allocated at once while a call ran; None off CUDA."""
    if device.type != "cuda":
        call()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    call()
    return torch.cuda.max_memory_allocated(device)
