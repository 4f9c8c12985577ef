"""What a run has done so far: measurements, costs. Kept in checkpoints; ``results.json`` is made from it."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.evaluation import Measurement, SampleScores, client_means, milestones, summarise
from fedmosaic.federation.wire import PRIVACY

_PARTS = {"self": True, "others": False}
"""Name -> whether own tasks count."""


@dataclass
class Progress:
    """The history of one run.

    Attributes:
        tasks: each client's own tasks.
        round: the last whole round.
        until: the run's last round, as far as it was known then.
        history: measurements, round 0 (the base models) first.
        losses: client -> mean training loss of each round; None where it did not train.
        messages: how often a client has trained, which is how many uploads and downloads there were.
        bytes_up, bytes_down: tensors and schemas of all rounds and clients.
        flops: of all local training.
        privacy: client -> what its uploads up to now tell about one of its samples (epsilon, delta, ...).
        train_seconds, evaluation_seconds: inside the clients; ``seconds``: the whole run.
    """

    tasks: Mapping[int, Sequence[str]]
    round: int = 0
    until: int = 0
    history: list[Measurement] = field(default_factory=list)
    losses: dict[int, list[float | None]] = field(default_factory=dict)
    messages: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    flops: float = 0.0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    seconds: float = 0.0
    privacy: dict[int, dict[str, float]] = field(default_factory=dict)

    def add_training(self, client: int, round_: int, done: Mapping[str, float], *, up: int, down: int) -> None:
        """Account for one client's round."""
        losses = self.losses.setdefault(client, [])
        losses += [None] * (round_ - 1 - len(losses))
        losses.append(done["loss"])
        self.messages += 1
        self.bytes_up += up
        self.bytes_down += down
        self.flops += done["flops"]
        self.train_seconds += done["seconds"]
        told = {key.removeprefix(PRIVACY): value for key, value in done.items() if key.startswith(PRIVACY)}
        if told:
            self.privacy[client] = told

    def headline(self, measurement: Measurement) -> dict[str, Any]:
        """Self and Others of one round, means over the clients that are there; who they are, if not all."""
        line: dict[str, Any] = {"round": measurement.round}
        if set(measurement.scores) != set(self.tasks):
            line["clients"] = sorted(measurement.scores)
        for name, own in _PARTS.items():
            means = client_means(measurement, self.tasks, own=own)
            line[name] = round(sum(means.values()) / len(means), 4) if means else None
        return line

    def rows(self) -> list[dict[str, object]]:
        """Rows of ``rounds.csv``."""
        rows: list[dict[str, object]] = []
        for measurement in self.history:
            own, others = (client_means(measurement, self.tasks, own=flag) for flag in (True, False))
            for client in measurement.scores:
                losses = self.losses.get(client, [])
                loss = losses[measurement.round - 1] if 0 < measurement.round <= len(losses) else None
                rows.append(
                    {
                        "round": measurement.round,
                        "client": client,
                        "loss": loss,
                        "self": own.get(client),
                        "others": others.get(client),
                    }
                )
        return rows

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        table = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self) if entry.name != "tasks"}
        history = [{"round": each.round, "scores": each.scores} for each in self.history]
        return {**table, "history": history}

    @classmethod
    def from_json(cls, tasks: Mapping[int, Sequence[str]], table: Mapping[str, Any]) -> Progress:
        """From a checkpoint; JSON's keys are text, clients are numbers."""
        history = [
            Measurement(each["round"], {int(client): scores for client, scores in each["scores"].items()})
            for each in table["history"]
        ]
        losses = {int(client): values for client, values in table["losses"].items()}
        privacy = {int(client): told for client, told in table.get("privacy", {}).items()}
        until = table.get("until", table["round"])
        return cls(tasks=tasks, **{**table, "until": until, "history": history, "losses": losses, "privacy": privacy})

    def privacy_results(self, guarantee: str) -> dict[str, Any] | None:
        """The ``privacy`` part of the results: what is promised, the largest epsilon, and each client's."""
        if not guarantee:
            return None
        clients = {str(client): self.privacy[client] for client in sorted(self.privacy)}
        worst = {key: max((told[key] for told in clients.values()), default=None) for key in ("epsilon", "delta")}
        return {"guarantee": guarantee, **worst, "per_client": clients}

    def results(self, settings: RunSettings, samples: SampleScores, *, guarantee: str = "") -> dict[str, Any]:
        """The content of ``results.json`` (docs/method-facts.md#fields-of-results).

        ``bytes_up`` and ``bytes_down`` are means over messages: a client sends and receives one in each round in which
        it trains; ``messages`` and the totals say what has really been sent.

        Args:
            settings: the run's.
            samples: scores of single samples of the final round.
            guarantee: what the method says of the privacy of its uploads.
        """
        rounds = milestones(settings.rounds, settings.evaluation.milestones, planned=settings.horizon)
        measured = [each for each in self.history if each.round in rounds]
        parts, initial = {}, {}
        for name, own in _PARTS.items():
            summary = summarise(measured, samples, self.tasks, own=own)
            parts[name] = summary.as_json() if summary else None
            first, last = (client_means(each, self.tasks, own=own) for each in (self.history[0], self.history[-1]))
            # Of the clients that ``last`` is over: those that have left would count in one and not in the other.
            initial[name] = statistics.fmean(first[client] for client in last) if last else None
        return {
            "scenario": settings.scenario.name,
            "method": settings.method,
            "engine": settings.engine,
            "seed": settings.seed,
            "rounds": self.round,
            "protocol": settings.scenario.protocol,
            "seconds": round(self.seconds, 3),
            "train_seconds": round(self.train_seconds, 3),
            "evaluation_seconds": round(self.evaluation_seconds, 3),
            "flops": self.flops,
            "messages": self.messages,
            "bytes_up": self.bytes_up / self.messages,
            "bytes_down": self.bytes_down / self.messages,
            "total_bytes_up": self.bytes_up,
            "total_bytes_down": self.bytes_down,
            **parts,
            "unseen": None,
            "privacy": self.privacy_results(guarantee),
            "initial": initial,
        }
