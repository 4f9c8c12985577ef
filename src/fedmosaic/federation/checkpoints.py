"""What a run goes on from: the server's last state that is whole, and whose clients have theirs.

The states of server and clients belong together by their round. A part that is damaged or missing, wherever it is,
takes all of them back to the round before: what is done again from there gives what it gave before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from fedmosaic.errors import RunError
from fedmosaic.evaluation import Measurement
from fedmosaic.federation.history import RunHistory
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.upload_store import UploadStore
from fedmosaic.methods.uploads import Upload, Uploads


@dataclass(frozen=True)
class Standing:
    """Where a run stands between two rounds, as the server sees it.

    Attributes:
        progress: the history; its ``round`` is the last one that is done.
        uploads: each client's last one.
        state: what the method keeps on the server.
    """

    progress: RunHistory
    uploads: Uploads = field(default_factory=lambda: Uploads([]))
    state: Mapping[str, Tensor] = field(default_factory=dict)


Lacking = Callable[[Standing], Sequence[str]]
"""Says of which parts that are not the server's own a standing is not whole: one text each."""


class Checkpoints:
    """The server's last states on disk.

    Args:
        folder: of the run.
        uploads: stores what checkpoints name.
        tasks: each client's own tasks.
    """

    def __init__(self, folder: RunFolder, uploads: UploadStore, tasks: Mapping[int, Sequence[str]]) -> None:
        self._folder = folder
        self._uploads = uploads
        self._tasks = tasks

    def save(self, standing: Standing) -> None:
        """Store where the run stands, and drop what no kept checkpoint needs.

        Args:
            standing: after a round.
        """
        about = {client: [each.architecture, each.samples, each.round] for client, each in standing.uploads.items()}
        tensors = {f"state|{name}": tensor for name, tensor in standing.state.items()}
        progress = standing.progress
        self._folder.save_checkpoint(progress.round, {**progress.as_json(), "format": 2, "uploads": about}, tensors)
        self._uploads.keep_only(self._folder.needed_uploads())

    def last_whole(self, lacking: Lacking = lambda _: ()) -> tuple[Standing | None, list[str]]:
        """Return the last standing that is whole, and what the later ones lack.

        Args:
            lacking: asks whoever else must be able to go on from there.

        Returns:
            The standing, which is the run's start if that is what comes before the damaged ones; None for a run that
            has no checkpoint. And one text for each checkpoint that was passed over.

        Raises:
            RunError: none is whole.
        """
        rounds = self._folder.rounds_kept()
        lost: list[str] = []
        for round_ in rounds:
            try:
                standing = self._load(round_)
            except RunError as error:
                lost.append(f"round {round_}: {str(error).rpartition('; ')[0]}")  # without what to do about it
                continue
            if not (missing := lacking(standing)):
                return standing, lost
            lost.append(f"round {round_}: {'; '.join(missing)}")
        if not rounds:
            return None, []
        if rounds[-1] == 1:  # nothing was dropped yet: the start is the round before
            return Standing(RunHistory(self._tasks)), lost
        raise RunError(
            f"no state that is kept of the run in {self._folder.path} is whole ({' / '.join(lost)}): bring the files "
            "back, or remove the folders checkpoints, uploads and clients to begin it anew"
        )

    def lost_scores(self, progress: RunHistory) -> bool:
        """Return whether the scores of single samples in the folder are not those of the last measurement.

        Args:
            progress: of a run that has had it.
        """
        try:
            return Measurement.of(progress.round, self._folder.scores()) != progress.history[-1]
        except (RunError, ValueError, TypeError, AttributeError):
            return True

    def _load(self, round_: int) -> Standing:
        table, tensors = self._folder.checkpoint(round_)
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            owner, _, name = key.partition("|")
            parts.setdefault(owner, {})[name] = tensor
        older = "format" not in table and not self._uploads.folder.exists()  # once they were kept in the checkpoint
        uploads = [
            Upload(
                int(client),
                architecture,
                parts.get(client, {}) if older else self._uploads.load(int(client), made),
                samples,
                made,
            )
            for client, (architecture, samples, made) in table.pop("uploads").items()
        ]
        progress = RunHistory.from_json(self._tasks, table, path=self._folder.checkpoints)
        return Standing(progress, Uploads(uploads), parts.get("state", {}))
