"""Settings as ``key=value`` strings with dotted keys, which :func:`fedmosaic.config.resolve` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from fedmosaic.errors import SettingsError


def literal(key: str, value: Any) -> str:
    """Return a value as a setting's text, which is read as the same value.

    Args:
        key: of the setting, for messages.
        value: a number, text, path, truth value, or a list or table of them.

    Raises:
        SettingsError: it is none of these.
    """
    plain = str(value) if isinstance(value, Path) else value
    try:
        return tomli_w.dumps({"value": plain}).partition("=")[2].strip()
    except (TypeError, ValueError):
        raise SettingsError(
            f"setting {key} = {value!r} is a {type(value).__name__}; expected a number, a text, a truth value or a "
            "list of them (leave a setting out to have its default)"
        ) from None
