"""The run beside a run: the same scenario by another method, to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.federation import RunFolder, engines

_ENGINE = "in-process"


def reference_of(settings: RunSettings) -> RunSettings | None:
    """Return the settings of the run beside one, if its scenario asks for one: all the same but method and engine.

    It runs in one process, as results do not depend on the engine; a run on other machines has none beside it.

    Args:
        settings: of the run.
    """
    name = settings.scenario.reference
    if not name or name == settings.method or engines.is_elsewhere(settings.engine):
        return None
    changes: dict[str, Any] = {"method": name, "method_settings": {}, "engine": _ENGINE}
    return settings.model_copy(update=changes)


def start_or_resume(settings: RunSettings, path: Path) -> RunFolder:
    """Return the folder of a run, be it new or interrupted.

    Args:
        settings: of the run.
        path: the folder.

    Raises:
        SettingsError: the folder holds another run.
    """
    holds_run = (path / "settings.toml").is_file()
    return RunFolder.resume(path, settings) if holds_run else RunFolder.create(path, settings)
