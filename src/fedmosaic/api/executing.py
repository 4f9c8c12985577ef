"""Running what is left of a run in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedmosaic.api.objects import Objects
from fedmosaic.api.reference import start_or_resume
from fedmosaic.config import RunSettings
from fedmosaic.experiments.sweep import Plan, check_begun
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.event_log import Interrupted
from fedmosaic.report import write_report
from fedmosaic.trackers import make_trackers


def execute(
    settings: RunSettings, folder: RunFolder, *, objects: Objects | None = None, callbacks: Sequence[Callback] = ()
) -> None:
    """Run all rounds that a folder does not have yet; a finished run is left alone.

    Args:
        settings: of the run.
        folder: of the run.
        objects: what it is given as objects.
        callbacks: hear what happens.

    Raises:
        FedMosaicError: the run failed.
        KeyboardInterrupt: the user stopped it; it can be gone on with.
    """
    if folder.results() is not None:
        return
    try:
        engines.run(settings, folder, callbacks=callbacks, assets=(objects or Objects()).assets)
    except KeyboardInterrupt:
        folder.log(Interrupted())
        raise


def execute_all(
    plans: Sequence[Plan],
    *,
    objects: Objects | None = None,
    track: Sequence[str] = (),
    after_each: Callable[[], object] = lambda: None,
) -> None:
    """Run what is not done yet of several runs, one after the other.

    Args:
        plans: the runs.
        objects: what they are given as objects.
        track: names of the trackers of each.
        after_each: called when one is done.

    Raises:
        SettingsError: a folder holds another run.
        FedMosaicError: data or models have changed since a run began, or a run failed.
    """
    check_begun(plans, (objects or Objects()).assets)
    for each in plans:
        if RunFolder(each.path).results() is None:
            folder = start_or_resume(each.settings, each.path)
            execute(each.settings, folder, objects=objects, callbacks=make_trackers(track))
            write_report(folder.path)
            after_each()
