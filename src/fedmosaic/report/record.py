"""What the files of a run folder say, read once; a run that is not done is read as far as it got."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import statistics
import tomllib
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedmosaic.config import RunSettings
from fedmosaic.errors import RunError, SettingsError
from fedmosaic.evaluation.summary import SampleScores
from fedmosaic.federation import examples, participation
from fedmosaic.federation.callbacks import Checkpoint
from fedmosaic.federation.event_log import Line
from fedmosaic.federation.examples import Example
from fedmosaic.federation.results import Costs, Missing, RunResults
from fedmosaic.federation.run_folder import RunFolder, When

Metric = Literal["loss", "self", "others"]
METRICS: tuple[Metric, ...] = ("loss", "self", "others")
Matrices = Mapping[int, Mapping[str, np.ndarray[Any, Any]]]
"""Round -> ``weights`` and, if there, ``similarity``; (N, N) each, in ascending order of the client ids."""

_REFERENCE = "reference"


@dataclass(frozen=True)
class RunRecord:
    """One run, as its folder tells it.

    Attributes:
        settings: what the run was started with.
        environment: ``environment.json``.
        results: ``results.json``; None while the run is not done.
        values: metric -> round -> client -> value; what was not measured is left out. Self and Others in [0, 1].
        not_finite: (round, client) of losses that are not finite numbers; they are not in ``values``.
        events: ``events.jsonl``.
        relevance: relevance matrices by round.
        reference: the local-only run beside this one, if there is one.
        samples: scores of single test samples at the start, at the end, and after the last exchange, as far as kept;
            client -> task -> score of each.
        answers: Self and Others with other weights (``answers.json``), by what they are.
        examples: a handful of questions with the answers, by client, of those whose files are here.
    """

    settings: RunSettings
    environment: Mapping[str, Any]
    results: RunResults | None
    values: Mapping[Metric, Mapping[int, Mapping[int, float]]]
    not_finite: Sequence[tuple[int, int]]
    events: Sequence[Line]
    relevance: Matrices
    reference: RunRecord | None = None
    samples: Mapping[When, SampleScores] = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    examples: Mapping[int, Sequence[Example]] = field(default_factory=dict)

    @property
    def clients(self) -> list[int]:
        """Client ids, ascending."""
        return sorted(client.id for client in self.settings.scenario.clients)

    def scored(self, metric: Metric, client: int) -> tuple[str, ...]:
        """Return the tasks that Self or Others of a client is the mean over, in the scenario's order.

        Args:
            metric: Self or Others.
            client: its id.
        """
        own = self.settings.scenario.client(client).tasks
        return tuple(task for task in self.settings.scenario.task_names if (task in own) == (metric == "self"))

    def full(self, round_: int) -> bool:
        """Return whether a round was scored as the end is, on all test samples unless the settings say otherwise.

        Args:
            round_: of the run.
        """
        return round_ == 0 or (self.results is not None and round_ == self.results.rounds)

    @property
    def costs(self) -> Costs | None:
        """What the run has cost; None while it is not done."""
        return self.results.costs if self.results else None

    @property
    def round(self) -> int:
        """The last whole round."""
        if self.results is not None:
            return self.results.rounds
        measured = [round_ for metric in METRICS for round_ in self.values[metric]]
        kept = [line.what.round for line in self.events if isinstance(line.what, Checkpoint)]
        return max([0, *measured, *kept])

    def messages(self, until: int) -> int:
        """Return how many messages clients have sent up to a round, and as many received: one for each that trained.

        Args:
            until: the round.
        """
        return sum(count for round_, count in self._trained.items() if round_ <= until)

    @cached_property
    def _trained(self) -> dict[int, int]:
        """How many clients have trained, or will by now, in each round."""
        away = Counter(each.round for each in self.missing if each.exchange == "training")
        return {round_: len(ids) - away[round_] for round_, ids in participation.schedule(self.settings).items()}

    @cached_property
    def missing(self) -> Sequence[Missing]:
        """Who was missing from which exchange, and why; of a run that is not done, each as it was last told."""
        if self.results is not None:
            return self.results.missing
        told = [line.what for line in self.events if isinstance(line.what, Missing)]
        return list({(each.round, each.client, each.exchange): each for each in told}.values())

    def last_round(self, metric: Metric) -> int | None:
        """Return the last round after which ``metric`` was measured; the base models (round 0) do not count.

        Args:
            metric: which values.
        """
        return max((round_ for round_ in self.values[metric] if round_ > 0), default=None)

    def members(self, metric: Metric) -> tuple[int, ...]:
        """Return the clients that means are over, ascending: those with a value after the last round, or at the start.

        Clients join and leave. A difference of means is one only between means over the same clients.

        Args:
            metric: which values.
        """
        last = self.last_round(metric)
        return tuple(sorted(self.values[metric].get(0 if last is None else last, {})))

    def mean(self, metric: Metric, round_: int | None, clients: Sequence[int] | None) -> float | None:
        """Return the mean over clients, None unless every one of them was measured; or over whoever was measured.

        Args:
            metric: which values.
            round_: of the run; None: of no round.
            clients: whose values; None: of whoever was measured.
        """
        measured = self.values[metric].get(-1 if round_ is None else round_, {})
        chosen = list(measured) if clients is None else clients
        return statistics.fmean(measured[each] for each in chosen) if chosen and set(chosen) <= set(measured) else None

    def exchanged_mean(self, metric: Metric, clients: Sequence[int]) -> float | None:
        """Return the mean over clients after the last exchange, None unless every one of them was measured then.

        Args:
            metric: Self or Others.
            clients: whose values.
        """
        found = self.results.exchanged if self.results else None
        summary = found and {"self": found.self_, "others": found.others}.get(metric)
        by_client = dict(zip(self.clients, summary.per_client, strict=True)) if summary else {}
        values = [value for client in clients if (value := by_client.get(client)) is not None]
        return statistics.fmean(values) if values and len(values) == len(clients) else None

    def curve(self, metric: Metric, clients: Sequence[int] | None) -> list[tuple[int, float]]:
        """Return (round, mean) where there is one; the clients are those of :meth:`mean`.

        Args:
            metric: which values.
            clients: whose values; None: of whoever was measured.
        """
        points = ((round_, self.mean(metric, round_, clients)) for round_ in sorted(self.values[metric]))
        return [(round_, value) for round_, value in points if value is not None]

    @property
    def as_long(self) -> RunRecord | None:
        """The reference if both runs are done and took equally many rounds, so that their results compare."""
        done = self.results is not None and self.reference is not None and self.reference.results is not None
        return self.reference if done and self.reference and self.reference.round == self.round else None

    @property
    def alone(self) -> SampleScores | None:
        """Scores of single test samples at the end of local-only training, if they compare and were kept."""
        return self.as_long.samples.get("final") if self.as_long else None


def read_run(path: Path) -> RunRecord:
    """Return what a run folder says, and the reference run in it.

    Args:
        path: the folder.

    Raises:
        SettingsError: ``path`` is not a run folder.
        RunError: a file in it is damaged.
    """
    record = _read_one(path)
    if not (path / _REFERENCE / "settings.toml").exists():
        return record
    return dataclasses.replace(record, reference=_read_one(path / _REFERENCE))


def _read_one(path: Path) -> RunRecord:
    folder = RunFolder(path)
    try:
        settings = folder.settings
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path / 'settings.toml'} is not valid TOML: {error}") from None
    clients = {client.id for client in settings.scenario.clients}
    values, not_finite = _read_rounds(path / "rounds.csv", clients)
    results = folder.results()
    return RunRecord(
        settings=settings,
        environment=_read_json(path / "environment.json") or {},
        results=results,
        values=values,
        not_finite=not_finite,
        events=list(folder.events()),
        relevance=_read_relevance(folder, len(clients)),
        samples=_read_samples(folder, results),
        answers=_read_json(path / "answers.json") or {},
        examples=_read_examples(folder, clients) if results is not None else {},
    )


def _read_samples(folder: RunFolder, results: RunResults | None) -> dict[When, SampleScores]:
    """Those of the end count once the run is done: one that goes on beyond its end has those of its earlier end."""
    moments: list[When] = ["start"]
    if results is not None:
        moments.append("final")
        if results.exchanged is not None and results.exchanged.changed:
            moments.append("exchanged")
    return {when: folder.scores(when=when) for when in moments if folder.has_scores(when=when)}


def _read_examples(folder: RunFolder, clients: set[int]) -> dict[int, Sequence[Example]]:
    kept = {client: examples.read(folder.client_folder / f"client-{client:03d}") for client in sorted(clients)}
    return {client: found for client, found in kept.items() if found}


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from None
    if not isinstance(table, dict):
        raise RunError(f"{path} is damaged: expected an object, got {type(table).__name__}")
    return table


def _read_rounds(
    path: Path, clients: set[int]
) -> tuple[dict[Metric, dict[int, dict[int, float]]], list[tuple[int, int]]]:
    values: dict[Metric, dict[int, dict[int, float]]] = {metric: {} for metric in METRICS}
    not_finite: list[tuple[int, int]] = []
    if not path.exists():
        return values, not_finite
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            try:
                round_, client = int(row["round"]), int(row["client"])
                found = {metric: float(row[metric]) for metric in METRICS if row.get(metric)}
            except (KeyError, TypeError, ValueError) as error:
                expected = "expected the columns round, client, loss, self, others with numbers"
                raise RunError(f"{path}, line {reader.line_num}: {error}; {expected}") from None
            if client not in clients:
                raise RunError(
                    f"{path}, line {reader.line_num}: unknown client {client}; the scenario has {sorted(clients)}"
                )
            for metric, value in found.items():
                if math.isfinite(value):
                    values[metric].setdefault(round_, {})[client] = value
                else:
                    not_finite.append((round_, client))
    return values, not_finite


def _read_relevance(folder: RunFolder, count: int) -> Matrices:
    try:
        found = folder.relevance()
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"a file in {folder.path / 'relevance'} is damaged ({error}); remove it") from None
    for round_, arrays in found.items():
        for name, array in arrays.items():
            if array.shape != (count, count):
                raise RunError(
                    f"{folder.path / 'relevance'}, round {round_}: {name!r} has the shape {array.shape}; "
                    f"the scenario has {count} clients"
                )
    return found
