"""Engines: what runs under the one ServerApp and the one ClientApp. Each is a file here."""

from collections.abc import Sequence

from fedmosaic.config import RunSettings
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.registry import ENGINES


def run(settings: RunSettings, folder: RunFolder, *, callbacks: Sequence[Callback] = ()) -> None:
    """Run all rounds that the folder does not have yet; its results and checkpoints are the outcome.

    Args:
        settings: of the run; its ``engine`` is the one that runs it.
        folder: of the run.
        callbacks: hear what happens while it does.

    Raises:
        SettingsError: there is no such engine.
        RunError: a client failed or answered wrongly.
    """
    ENGINES.load(settings.engine)().run(settings, folder, callbacks=callbacks)
