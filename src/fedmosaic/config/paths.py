"""Paths in scenarios and settings become absolute where they are read, so that a run can be opened from any folder.

A path in a file is relative to the file, one on the command line to the working folder; ``~`` is the home folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedmosaic.config.names import ALIGNMENTS
from fedmosaic.errors import SettingsError
from fedmosaic.registry import BASE_MODELS

Reading = Callable[[str, Path], str]


def folder(text: str, base: Path) -> str:
    """Return a path as an absolute one; an empty text, which means none, stays empty.

    Args:
        text: as it was written.
        base: what a relative path is relative to.

    Raises:
        SettingsError: no file system has such a path.
    """
    return str(_resolved(text, base)) if text else ""


def name_or_folder(text: str, base: Path, *, names: Container[str]) -> str:
    """Return a name as it is, and the path of a folder as an absolute one.

    A path is what begins like one (``/``, ``.``, ``~``) and what names a folder that exists, unless it is a known name;
    all else may be the name of something that is neither built in nor here.

    Args:
        text: as it was written.
        base: what a relative path is relative to.
        names: the known names.

    Raises:
        SettingsError: no file system has such a path.
    """
    if not text or text in names:
        return text
    path = _resolved(text, base)
    return str(path) if _like_a_path(text) or path.is_dir() else text


def name_or_path(text: str, base: Path) -> str:
    """Return what begins like a path as an absolute one, and all else as it is, whatever folders there are.

    Args:
        text: as it was written.
        base: what a relative path is relative to.

    Raises:
        SettingsError: no file system has such a path.
    """
    return str(_resolved(text, base)) if _like_a_path(text) else text


def _like_a_path(text: str) -> bool:
    return text.startswith((os.sep, ".", "~"))


_model = partial(name_or_folder, names=BASE_MODELS)
_alignment = partial(name_or_folder, names=ALIGNMENTS)

OF_SCENARIO: Mapping[tuple[str, ...], Reading] = {
    ("data",): folder,
    ("probe",): _model,
    ("clients", "*", "model"): _model,
    ("clients", "*", "start"): folder,
    ("settings", "adapter", "alignment"): _alignment,
}
"""Where paths stand in a scenario file; ``*`` is every entry of a list."""

OF_SETTINGS: Mapping[tuple[str, ...], Reading] = {
    **{("scenario", *place): reading for place, reading in OF_SCENARIO.items()},
    ("adapter", "alignment"): _alignment,
}
"""Where paths stand in run settings."""


def expanded(text: str) -> Path:
    """Return a path with its ``~`` replaced, if that home folder is known.

    Args:
        text: as it was written.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's raises where it is not known


def rooted(table: Any, base: Path, places: Mapping[tuple[str, ...], Reading]) -> Any:
    """Return a table, which may not be valid yet, with its paths absolute.

    Args:
        table: as it was read.
        base: what relative paths are relative to.
        places: where paths stand.

    Raises:
        SettingsError: no file system has such a path.
    """
    for place, reading in places.items():
        table = _changed(table, place, reading, base)
    return table


def _changed(node: Any, place: Sequence[str], reading: Reading, base: Path) -> Any:
    if not place:
        return reading(node, base) if isinstance(node, str) else node
    if place[0] == "*" and isinstance(node, list):
        return [_changed(each, place[1:], reading, base) for each in node]
    if isinstance(node, dict) and place[0] in node:
        return {**node, place[0]: _changed(node[place[0]], place[1:], reading, base)}
    return node


def _resolved(text: str, base: Path) -> Path:
    try:
        return (base / expanded(text)).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(f"{text!r} cannot be a path ({error})") from None
