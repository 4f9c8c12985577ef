"""Processes of this machine, this one and others."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def peak_memory() -> int | None:
    """Return the most bytes of the machine's memory that this process has held, or None where no system call tells.

    On Linux it is read off /proc: what ``getrusage`` says there counts the process that started this one, too.
    """
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))):
        return 1024 * int(peak[1])
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def is_running(process: int) -> bool:
    """Return whether a process is there, whoever it belongs to.

    Args:
        process: its number; asked by the signal 0, which on POSIX does nothing to it.
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
