"""Runs in processes of their own, so that two methods can use two cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from fedmosaic.api.reference import start_or_resume
from fedmosaic.config import RunSettings
from fedmosaic.errors import FedMosaicError, RunError
from fedmosaic.experiments.sweep import Plan, check_begun
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.event_log import Failed
from fedmosaic.report import write_report
from fedmosaic.trackers import make_trackers

_POLL_SECONDS = 1.0


class BackgroundRun:
    """A run in another process; it goes on where its folder stands and ends with the process that started it.

    Args:
        settings: of the run.
        path: its folder, new or holding this run.
        track: names of its trackers.
    """

    def __init__(self, settings: RunSettings, path: Path, *, track: Sequence[str] = ()) -> None:
        self.path = path
        self._process: BaseProcess = multiprocessing.get_context("spawn").Process(
            target=_work, args=(settings.model_dump_json(), str(path), os.getpid(), tuple(track)), daemon=True
        )
        self._process.start()

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive()

    def join(self) -> None:
        """Wait for the end.

        Raises:
            RunError: it failed.
        """
        self._process.join()
        if self._process.exitcode != 0:
            failures = [line.what for line in RunFolder(self.path).events() if isinstance(line.what, Failed)]
            reason = failures[-1].error if failures else f"exit status {self._process.exitcode}"
            raise RunError(f"the run in {self.path} failed: {reason}")

    def stop(self) -> None:
        """End it; it can be resumed."""
        if self.running:
            self._process.terminate()
            self._process.join()


def run_all(
    plans: Sequence[Plan],
    *,
    jobs: int,
    track: Sequence[str] = (),
    after_each: Callable[[], object] = lambda: None,
    show: Callable[[], object] = lambda: None,
) -> None:
    """Run what is not done yet, each in its own process; the first failure stops all.

    Args:
        plans: the runs.
        jobs: how many at once.
        track: names of the trackers of each.
        after_each: called when one is done.
        show: called about once a second.

    Raises:
        SettingsError: a folder holds another run.
        DataError: data or models have changed since a run began.
        RunError: a run failed.
    """
    check_begun(plans)
    waiting = [each for each in plans if RunFolder(each.path).results() is None]
    running: list[BackgroundRun] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                chosen = waiting.pop(0)
                running.append(BackgroundRun(chosen.settings, chosen.path, track=track))
            for run in [run for run in running if not run.running]:
                run.join()
                running.remove(run)
                after_each()
            show()
            time.sleep(_POLL_SECONDS)
    finally:
        for run in running:
            run.stop()


def _work(settings: str, path: str, parent: int, track: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    parsed = RunSettings.model_validate_json(settings)
    folder = start_or_resume(parsed, Path(path))
    try:
        if folder.results() is None:
            engines.run(parsed, folder, callbacks=make_trackers(track))
        write_report(folder.path)
    except FedMosaicError as error:
        folder.log(Failed(str(error)))
        raise SystemExit(1) from None


def _end_with(parent: int) -> None:
    """A killed parent cannot say goodbye: leave when it is gone, so that nobody writes where it may be resumed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
