"""Where a run was submitted to, kept in its folder on the machine that started it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from fedmosaic.federation.results import parsed
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.io import load_json, write_atomically

_SUBMISSION = "submission.json"


@dataclass(frozen=True)
class Submission:
    """How a run was submitted; kept in its folder, so that it can be gone on with.

    Attributes:
        superlink: name of the connection; empty: Flower's default one.
        key: names the run on server and clients.
        runs: Flower's numbers of it, the last one last.
    """

    superlink: str
    key: str
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
