"""Other processes of this machine."""

from __future__ import annotations

import os


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
