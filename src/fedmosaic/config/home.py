"""Where built data and features are cached."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return ``$FEDMOSAIC_HOME``, or fedmosaic's folder in the user's cache; it need not exist yet."""
    given = os.environ.get("FEDMOSAIC_HOME")
    if given:
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "fedmosaic"
