"""Engines: what runs under the one ServerApp and the one ClientApp. Each is a file here."""

from collections.abc import Sequence

from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.registry import ENGINES


def takes_objects(engine: str) -> bool:
    """Whether an engine runs the clients in this process, so that they can be handed objects.

    Args:
        engine: its name.

    Raises:
        SettingsError: there is no such engine.
    """
    return bool(getattr(ENGINES.load(engine), "takes_objects", False))


def is_elsewhere(engine: str) -> bool:
    """Whether an engine's server and clients work on other machines: this one need not have their data and models.

    Args:
        engine: its name.

    Raises:
        SettingsError: there is no such engine.
    """
    return bool(getattr(ENGINES.load(engine), "elsewhere", False))


def run(
    settings: RunSettings,
    folder: RunFolder,
    *,
    callbacks: Sequence[Callback] = (),
    assets: AssetsOf = Assets,
) -> None:
    """Run all rounds that the folder does not have yet; its results and checkpoints are the outcome.

    Args:
        settings: of the run; its ``engine`` is the one that runs it.
        folder: of the run.
        callbacks: hear what happens while it does.
        assets: opens what the clients and the server read; handed on only to engines that take objects.

    Raises:
        SettingsError: there is no such engine, or its clients cannot train side by side, as asked.
        RunError: a client failed or answered wrongly.
    """
    if isinstance(settings.cohort, int) and not getattr(ENGINES.load(settings.engine), "cohorts", False):
        raise SettingsError(
            f"cohort={settings.cohort} is not for engine {settings.engine!r}, whose clients have processes of their "
            "own; use engine in-process, or cohort=auto, which trains side by side where it can"
        )
    handed = {"assets": assets} if takes_objects(settings.engine) else {}
    ENGINES.load(settings.engine)().run(settings, folder, callbacks=callbacks, **handed)
