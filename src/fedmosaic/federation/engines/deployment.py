"""A federation of machines: the run is submitted to a SuperLink that runs, and its results are brought here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedmosaic import events
from fedmosaic.config import RunSettings
from fedmosaic.errors import RunError
from fedmosaic.federation import flower
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.run_config import DEFAULTS
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.served import Listener
from fedmosaic.federation.submission import Submission
from fedmosaic.version import __version__


class Deployment:
    """Server and clients work elsewhere; this machine needs neither data nor models.

    Attributes:
        elsewhere: whether data and models are on other machines, so that nothing can be checked or made here.
    """

    name = "deployment"
    elsewhere = True

    def run(self, settings: RunSettings, folder: RunFolder, *, callbacks: Sequence[Callback] = ()) -> None:
        """Submit a run, or find it again where it was submitted, and wait for its results.

        Args:
            settings: of the run.
            folder: of the run; its submission says where to and under which key.
            callbacks: hear what happens while it does.

        Raises:
            SettingsError: there is no such SuperLink connection.
            RunError: the SuperLink cannot be reached, or the run failed there.
        """
        submission = Submission.of(folder) or Submission()
        link = flower.SuperLink(submission.superlink or None)
        try:
            with folder.locked():
                self._run(link, submission, settings, folder, callbacks)
        finally:
            link.close()

    def _run(
        self,
        link: flower.SuperLink,
        submission: Submission,
        settings: RunSettings,
        folder: RunFolder,
        callbacks: Sequence[Callback],
    ) -> None:
        run = self._running(link, submission)
        if run is None:
            bundle = flower.app_bundle("fedmosaic", __version__, DEFAULTS)
            run = link.start(bundle, {"settings": settings.to_toml(), "run": submission.key})
            submission = replace(submission, runs=(*submission.runs, run)).keep(folder)
        events.emit("note", text=f"run {run} at {link.address}")
        said: list[str] = []
        try:
            Listener(settings, folder, callbacks, said.append).hear(link.output(run))
        except KeyboardInterrupt:
            link.stop(run)
            raise
        if (why := link.failure(run)) is not None:
            raise RunError(f"run {run} at {link.address} {why}; flwr log {run} has all that it printed")
        if folder.results() is None:
            raise RunError(
                f"run {run} at {link.address} has brought no results; fedmosaic run --resume --out {folder.path} "
                f"asks again; it printed last: {' | '.join(said[-3:]) or 'nothing'}"
            )

    @staticmethod
    def _running(link: flower.SuperLink, submission: Submission) -> int | None:
        """Return Flower's number of the run if it goes on there, or has ended well."""
        if submission.runs and link.failure(submission.runs[-1]) is None:
            return submission.runs[-1]
        return None
