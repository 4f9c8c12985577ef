"""The device of a run: taken once when it starts, and again where a finished run is opened."""

from __future__ import annotations

from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.federation import engines
from fedmosaic.models.device import AUTO, check_device, check_single, described, listed, taken


def placed(settings: RunSettings, *, tell: Teller = SILENT) -> RunSettings:
    """Return a run's settings with the device that ``auto`` takes on this machine.

    Where clients run elsewhere, each machine takes its own, and ``auto`` stays.

    Args:
        settings: of a run that is to start.
        tell: is told what was taken.

    Raises:
        SettingsError: the device is not there.
    """
    if engines.is_elsewhere(settings.engine):
        return settings
    check_device(settings.device)
    if settings.device != AUTO:
        return settings
    device = str(taken(AUTO))
    tell.note(f"device: {described(device)}")
    return settings.model_copy(update={"device": device})


def placed_again(settings: RunSettings, device: str | None = None) -> RunSettings:
    """Return a finished run's settings with the device on which it is opened.

    Args:
        settings: of the run.
        device: where its models shall compute; None: where they did (the first, if on several), or what ``auto`` takes
            if that is not there.

    Raises:
        SettingsError: the device is not there, or several are named.
    """
    if device is None:
        device = listed(settings.device)[0]
        try:
            check_device(device)
        except SettingsError:
            device = AUTO
    check_single(device)
    return settings.model_copy(update={"device": str(taken(device))})
