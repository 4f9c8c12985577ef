"""A run is a folder (docs/method-facts.md#run-folder): readable at any moment, resumable after any kill."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.errors import RunError, SettingsError
from fedmosaic.federation import event_log
from fedmosaic.federation.event_log import Changed, Happening, Line
from fedmosaic.federation.results import RunResults
from fedmosaic.federation.settings_differences import differences
from fedmosaic.io import (
    clear_temporaries,
    folder_written_atomically,
    load_json,
    load_tensors,
    save_json,
    save_tensors,
    write_atomically,
)

_KEPT_CHECKPOINTS = 2
_BEFORE = "remove its folder to go on from the one before"
_REMAKE = "remove it, and fedmosaic run --resume makes it anew"
When = Literal["start", "final", "exchanged"]
"""Of which moment scores of single samples are: the base models, after training, after the last exchange."""
_SCORES: Mapping[When, str] = {
    "start": "scores.start.json",
    "final": "scores.json",
    "exchanged": "scores.exchanged.json",
}


class RunFolder:
    """Reads and writes one run's folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    # ---- opening -------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, settings: RunSettings) -> RunFolder:
        """Return the folder of a new run, with its settings in it.

        Args:
            path: new or empty.
            settings: of the run.

        Raises:
            SettingsError: the folder holds something already, or cannot be made.
        """
        cls.check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / "settings.toml", settings.to_toml())
            write_atomically(path / "environment.json", json.dumps(environment(), indent=2) + "\n")
        except OSError as error:
            raise SettingsError(f"--out {path} cannot be written: {error.strerror}") from None
        return cls(path)

    @staticmethod
    def check_free(path: Path) -> None:
        """Refuse a folder that holds anything but what is left of a run that was killed before it had settings.

        Args:
            path: the folder; it need not be there.

        Raises:
            SettingsError: naming the folder.
        """
        if path.exists() and (not path.is_dir() or set(path.iterdir()) - set(path.glob(".settings.toml.*.part"))):
            kind = "a run" if (path / "settings.toml").exists() else "something else"
            raise SettingsError(f"--out {path} already holds {kind}; choose another folder, or --resume to go on")

    @classmethod
    def resume(cls, path: Path, settings: RunSettings) -> RunFolder:
        """Return the folder of a run to go on with.

        Args:
            path: its folder.
            settings: what is asked for now; must be what the run was started with.

        Raises:
            SettingsError: no run there, or another one.
        """
        folder = cls.holding_run(path)
        if folder.settings.digest != settings.digest:
            changed = differences(folder.settings, settings)
            raise SettingsError(f"--out {path} holds a run with other settings ({changed}); choose another folder")
        return folder

    @classmethod
    def holding_run(cls, path: Path) -> RunFolder:
        """Return a folder that must hold a run.

        Args:
            path: the folder.

        Raises:
            SettingsError: it holds none; says what is there instead.
        """
        if not (path / "settings.toml").is_file():
            if not path.exists():
                found = "there is no such folder"
            elif not path.is_dir():
                found = "it is a file"
            else:
                found = "it holds something else" if any(path.iterdir()) else "it is empty"
            raise SettingsError(f"no run in {path} to go on with: {found}; start one without --resume")
        return cls(path)

    def change(self, settings: RunSettings) -> None:
        """Let the run go on with other settings; results that it had under the old ones are kept beside.

        A kill in between leaves the run as it was before, or with the new settings; both can be resumed.

        Args:
            settings: with which it goes on.

        Raises:
            SettingsError: another process is running in the folder, or it cannot be written.
        """
        with self.locked():
            if (results := self.results()) is not None and settings.rounds != results.rounds:
                for name in ("answers", "results"):  # of a kill in between the results are still there
                    done = self.path / f"{name}.json"
                    if done.exists():
                        done.rename(done.with_name(f"{name}.round-{results.rounds:04d}.json"))
            write_atomically(self.path / "settings.toml", settings.to_toml())
            self.log(Changed(rounds=settings.rounds, planned=settings.horizon))

    @property
    def settings(self) -> RunSettings:
        """The settings that the run was started with, or was let go on with."""
        return RunSettings.from_toml(self.path / "settings.toml")

    @property
    def client_folder(self) -> Path:
        """Private client states of the in-process and simulation engines, where all clients are on this machine."""
        return self.path / "clients"

    @contextmanager
    def locked(self, *, wait: float = 0.0) -> Iterator[None]:
        """Keep other processes from running in this folder.

        Args:
            wait: seconds for which one that does already is waited for.

        Raises:
            SettingsError: one does, and goes on.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            raise SettingsError(f"another process is running in {self.path}; wait for it or stop it first") from None
        try:
            for folder in (
                self.path,
                self.checkpoints,
                self.path / "relevance",
                self.client_folder,
                *(self.path / "uploads").glob("client-*"),
            ):
                clear_temporaries(folder)
            yield
        finally:
            lock.release()

    # ---- events and metrics --------------------------------------------------------------------------------------

    @property
    def event_log(self) -> Path:
        """The file ``events.jsonl``."""
        return self.path / "events.jsonl"

    def log(self, what: Happening) -> None:
        """Append one line to ``events.jsonl``.

        Args:
            what: what happened.
        """
        event_log.append(self.event_log, what)

    def events(self) -> Iterator[Line]:
        """All whole lines of ``events.jsonl`` so far."""
        return event_log.read(self.event_log)

    def write_rounds(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write ``rounds.csv``: one row per measured round and client.

        Args:
            rows: with equal keys; nothing is written if there are none.
        """
        if not rows:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / "rounds.csv", text.getvalue())

    def write_scores(self, scores: Mapping[int, Mapping[str, Sequence[float]]], *, when: When = "final") -> None:
        """Write ``scores.json``: the final score of every test sample; or the same of another moment, beside it.

        Args:
            scores: client -> task -> score of each sample, in [0, 1].
            when: after training, of the base models, or after the last exchange.
        """
        table = {str(client): scores[client] for client in sorted(scores)}
        write_atomically(self.path / _SCORES[when], json.dumps(table) + "\n")

    def scores(self, *, when: When = "final") -> dict[int, dict[str, list[float]]]:
        """Return the score of every test sample, by client and task.

        Args:
            when: after training, of the base models, or after the last exchange.

        Raises:
            RunError: the file is missing or damaged.
        """
        table = load_json(
            self.path / _SCORES[when],
            advice="remove results.json and the last folder of checkpoints, and fedmosaic run --resume makes them anew",
        )
        return {int(client): tasks for client, tasks in table.items()}

    def has_scores(self, *, when: When = "final") -> bool:
        """Return whether scores of single samples are kept; earlier versions kept those of the end only.

        Args:
            when: of which moment.
        """
        return (self.path / _SCORES[when]).is_file()

    def write_relevance(self, round_: int, weights: Tensor, similarity: Tensor | None) -> None:
        """Write one round's relevance matrices as ``relevance/round-0007.npz`` (plain arrays).

        Args:
            round_: whose uploads were compared.
            weights: (N, N), in ascending order of the client ids.
            similarity: (N, N), of which the weights were made; None if there is none.
        """
        arrays = {"weights": weights.numpy()}
        if similarity is not None:
            arrays["similarity"] = similarity.numpy()
        data = io.BytesIO()
        np.savez(data, **arrays)  # type: ignore[arg-type]
        write_atomically(self.path / "relevance" / f"round-{round_:04d}.npz", data.getvalue())

    def relevance(self) -> dict[int, dict[str, np.ndarray[Any, Any]]]:
        """Relevance matrices by round.

        Raises:
            RunError: a file is damaged.
        """
        found = {}
        for path in sorted((self.path / "relevance").glob("round-*.npz")):
            try:
                with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                    found[int(path.stem.removeprefix("round-"))] = {name: arrays[name] for name in arrays.files}
            except Exception as error:  # zipfile, zlib and numpy raise whatever the damage leads them to
                raise RunError(f"{path} is damaged ({type(error).__name__}); remove it to do without") from None
        return found

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def save_checkpoint(self, round_: int, progress: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Store the server's state after a round; others go, but for the one before it.

        Args:
            round_: the last that is done.
            progress: the history, in the form of JSON.
            tensors: the method's state.
        """
        with folder_written_atomically(self._checkpoint(round_)) as folder:
            save_tensors(folder / "server.safetensors", tensors)
            save_json(folder / "progress.json", progress)
        kept = [each for each in self.rounds_kept() if each <= round_][:_KEPT_CHECKPOINTS]
        for other in set(self.rounds_kept()) - set(kept):  # later ones are those that could not be used
            shutil.rmtree(self._checkpoint(other))

    def rounds_kept(self) -> list[int]:
        """The rounds after which there is a checkpoint, whole or not, the last one first."""
        return sorted(
            (int(path.name.removeprefix("round-")) for path in self.checkpoints.glob("round-*")), reverse=True
        )

    def checkpoint(self, round_: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the server's state after a round: the history and the method's tensors.

        Args:
            round_: one of :meth:`rounds_kept`.

        Raises:
            RunError: it is damaged.
        """
        folder = self._checkpoint(round_)
        return (
            load_json(folder / "progress.json", advice=_BEFORE),
            load_tensors(folder / "server.safetensors", advice=_BEFORE),
        )

    def latest_checkpoint(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """The server's state after the last whole round, or None.

        Raises:
            RunError: it is damaged.
        """
        rounds = self.rounds_kept()
        return self.checkpoint(rounds[0]) if rounds else None

    def needed_uploads(self) -> set[tuple[int, int]]:
        """The uploads that the kept checkpoints go on from, as (client, round)."""
        tables = [load_json(self._checkpoint(each) / "progress.json", advice=_BEFORE) for each in self.rounds_kept()]
        return {(int(client), about[2]) for table in tables for client, about in table["uploads"].items()}

    @property
    def checkpoints(self) -> Path:
        """The folder with the server's last states."""
        return self.path / "checkpoints"

    def _checkpoint(self, round_: int) -> Path:
        return self.checkpoints / f"round-{round_:04d}"

    # ---- results -------------------------------------------------------------------------------------------------

    def write_results(self, results: RunResults) -> None:
        """Write ``results.json``; its existence means that the run is done.

        Args:
            results: of the run.
        """
        write_atomically(self.path / "results.json", json.dumps(results.as_json(), indent=2) + "\n")

    def results(self) -> RunResults | None:
        """The results, or None while the run is not done.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / "results.json"
        if not path.exists():
            return None
        return RunResults.from_json(load_json(path, advice=_REMAKE), path=path, advice=_REMAKE)


def environment() -> dict[str, Any]:
    """What a run's numbers may depend on besides its settings."""
    packages = ("fedmosaic", "torch", "transformers", "flwr", "safetensors", "numpy")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": {name: version(name) for name in packages},
    }
