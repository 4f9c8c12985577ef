"""MLflow: a database in the run folder, or the server that ``MLFLOW_TRACKING_URI`` names."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedmosaic.federation.callbacks import RunStart
from fedmosaic.trackers.base import ROUND, Parameter, Pixels, Tracker, kept_id, library, title

_EXPERIMENT = "fedmosaic"
_LONGEST = 6000  # characters of a parameter's value that every MLflow server takes
_MOST_AT_ONCE = {"metrics": 1000, "params": 100, "tags": 100}  # of one call


class MLflow(Tracker):
    """Logs to an MLflow run, which goes on when the run does."""

    name = "mlflow"

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # who tracks a run has not asked to be counted
        self._library = library("mlflow", extra=self.name)
        self._client: Any = None
        self._run = ""
        self._uri = ""
        self._waiting: list[Any] = []

    def open(self, run: RunStart, parameters: Mapping[str, Parameter]) -> None:
        """Make the run, or take it up again. See :meth:`Tracker.open`."""
        logging.getLogger("mlflow.store").setLevel(logging.WARNING)  # it tells how it makes its tables
        self._uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.folder.resolve() / 'mlflow.db'}"
        self._client = self._library.MlflowClient(tracking_uri=self._uri)
        self._run = kept_id(run.folder, self.name, partial(self._made, run))
        self._client.update_run(self._run, status="RUNNING")
        known, entities = self._client.get_run(self._run).data, self._library.entities
        params, tags = [], []
        for name, value in ((name, str(value)[:_LONGEST]) for name, value in parameters.items()):
            tag = f"{name}.resumed"
            if name not in known.params:
                params.append(entities.Param(name, value))
            elif value != known.tags.get(tag, known.params[name]):  # MLflow refuses a parameter's second value
                tags.append(entities.RunTag(tag, value))
        self._log("params", params)
        self._log("tags", tags)

    def scalars(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        """Keep numbers until the round ends: one call a step would take longer. See :meth:`Tracker.scalars`."""
        now = int(time.time() * 1000)
        self._waiting += [self._library.entities.Metric(name, value, now, at) for name, value in values.items()]
        if axis == ROUND or len(self._waiting) >= _MOST_AT_ONCE["metrics"]:
            self._flush()

    def image(self, name: str, pixels: Pixels, *, at: int) -> None:
        """Log an image. See :meth:`Tracker.image`."""
        self._client.log_image(self._run, pixels, key=name, step=at)

    def close(self, *, done: bool) -> None:
        """End the run. See :meth:`Tracker.close`."""
        self._flush()
        self._client.set_terminated(self._run, status="FINISHED" if done else "KILLED")

    @property
    def view(self) -> str:
        """The command that shows it."""
        return f"mlflow ui --backend-store-uri {self._uri}" if self._uri.startswith("sqlite:") else self._uri

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._log("metrics", waiting)

    def _log(self, kind: str, entries: list[Any]) -> None:
        for start in range(0, len(entries), _MOST_AT_ONCE[kind]):
            self._client.log_batch(self._run, **{kind: entries[start : start + _MOST_AT_ONCE[kind]]})

    def _made(self, run: RunStart) -> str:
        """A new run, in an experiment that may have others."""
        return str(self._client.create_run(self._experiment(run.folder), run_name=title(run.settings)).info.run_id)

    def _experiment(self, folder: Path) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        if (known := self._client.get_experiment_by_name(name)) is not None:
            return str(known.experiment_id)
        local = {"artifact_location": (folder.resolve() / "mlartifacts").as_uri()}
        return str(self._client.create_experiment(name, **(local if self._uri.startswith("sqlite:") else {})))
