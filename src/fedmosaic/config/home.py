"""Where built data and features are cached."""

from __future__ import annotations

import os
from pathlib import Path

from fedmosaic.config.paths import expanded
from fedmosaic.errors import SettingsError

_HOW = "name a folder that can be written by FEDMOSAIC_HOME"


def home_path() -> Path:
    """Return ``$FEDMOSAIC_HOME``, or fedmosaic's folder in the user's cache, whether it is there or not.

    Raises:
        SettingsError: the user has no home folder.
    """
    given, cache = os.environ.get("FEDMOSAIC_HOME"), os.environ.get("XDG_CACHE_HOME")
    path = expanded(given) if given else expanded(cache or "~/.cache") / "fedmosaic"
    if path.parts[:1] and path.parts[0].startswith("~"):
        raise SettingsError(f"the cache folder {path} is in a home folder that is not known; {_HOW}")
    return path.absolute()


def home() -> Path:
    """Return the folder of :func:`home_path`, made if it was not there yet.

    Raises:
        SettingsError: it cannot be made; says how to choose another.
    """
    path = home_path()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"the cache folder {path} cannot be made ({reason}); {_HOW}") from None
    return path


def advice(path: str) -> str:
    """Return what to do about a file that cannot be written; empty where it is not in the cache folder.

    Args:
        path: the file.
    """
    try:
        return f"; it is in the cache folder: {_HOW}" if Path(path).is_relative_to(home_path()) else ""
    except SettingsError:
        return ""
