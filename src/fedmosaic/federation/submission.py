"""Where a run was submitted to, kept in its folder on the machine that started it."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, replace

from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.federation import engines
from fedmosaic.federation.results import parsed
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.io import load_json, write_atomically

_SUBMISSION = "submission.json"
_KEY_BYTES = 8


@dataclass(frozen=True)
class Submission:
    """How a run was submitted; kept in its folder, so that it can be gone on with.

    Attributes:
        superlink: name of the connection; empty: Flower's default one.
        key: names the run on server and clients.
        runs: Flower's numbers of it, the last one last.
    """

    superlink: str = ""
    key: str = field(default_factory=lambda: secrets.token_hex(_KEY_BYTES))
    runs: tuple[int, ...] = ()

    @classmethod
    def of(cls, folder: RunFolder) -> Submission | None:
        """Return how the run in a folder was submitted; None if it was not yet.

        Args:
            folder: of the run.

        Raises:
            RunError: the file is damaged.
        """
        path = folder.path / _SUBMISSION
        if not path.is_file():
            return None
        advice = "remove it to start the run anew"
        return parsed(cls, load_json(path, advice=advice), path=path, advice=advice)

    def keep(self, folder: RunFolder) -> Submission:
        """Write it down and return it.

        Args:
            folder: of the run.
        """
        write_atomically(folder.path / _SUBMISSION, json.dumps(asdict(self)) + "\n")
        return self


def check_superlink(settings: RunSettings, superlink: str | None) -> None:
    """Refuse a SuperLink for a run that is not submitted to one.

    Args:
        settings: of the run.
        superlink: name of a connection; None if none was named.

    Raises:
        SettingsError: naming the engine.
    """
    if superlink is not None and not engines.is_elsewhere(settings.engine):
        raise SettingsError(f"--superlink {superlink} has no meaning for engine {settings.engine!r}; use deployment")


def submit_to(folder: RunFolder, superlink: str | None) -> None:
    """Write down where a run is to be submitted to, if that was said.

    Args:
        folder: of the run.
        superlink: name of a connection in Flower's configuration; None: as before, or Flower's default one.

    Raises:
        SettingsError: the run is not submitted to a SuperLink.
    """
    check_superlink(folder.settings, superlink)
    if superlink is not None:
        before = Submission.of(folder)
        Submission(superlink).keep(folder) if before is None else replace(before, superlink=superlink).keep(folder)
