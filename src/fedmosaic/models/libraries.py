"""Whether a library is installed that only some settings need."""

from __future__ import annotations

from importlib.util import find_spec


def installed(library: str) -> bool:
    """Return whether a library can be imported; it is not.

    Args:
        library: as it is imported, e.g. ``optimum.quanto``.
    """
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
