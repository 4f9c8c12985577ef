"""``--sweep FILE``: the options of ``fedmosaic compare`` from a file; those on the command line come before it."""

from __future__ import annotations

from pathlib import Path

import typer

from fedmosaic.experiments.sweep_file import Sweep


def take_options(context: typer.Context, path: Path | None) -> Path | None:
    """Let a sweep file give the defaults of the other options.

    Args:
        context: of the command, whose other options are not read yet.
        path: of the file, if one is given.

    Returns:
        The path as it was given.

    Raises:
        SettingsError: the file cannot be read or is not valid.
    """
    if path is not None:
        options = {key: value for key, value in Sweep.read(path).options().items() if value is not None}
        context.default_map = {"out": str(Path("runs") / path.stem), **options}
    return path
