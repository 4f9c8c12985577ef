"""What a run has done so far: measurements, losses, costs. Kept in checkpoints; the results are made from it."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.errors import WireError
from fedmosaic.evaluation import Measurement, SampleScores, client_means, milestones, summarise
from fedmosaic.federation.results import (
    Costs,
    ExchangeCosts,
    ExchangedScores,
    InitialScores,
    Missing,
    PrivacyAccount,
    PrivacySpent,
    RunResults,
    parsed,
)
from fedmosaic.federation.wire import PRIVACY

_NOT_KEPT = ("tasks", "exchanged")


@dataclass
class RunHistory:
    """The history of one run.

    Attributes:
        tasks: each client's own tasks.
        round: the last whole round.
        until: the run's last round, as far as it was known then.
        history: measurements, round 0 (the base models) first.
        losses: client -> mean training loss of each round; None where it did not train.
        stepless: client -> rounds that it trained in without a step of its own model, whose loss says nothing.
        messages: how often a client has trained, which is how many uploads and downloads there were.
        bytes_up, bytes_down: tensors and schemas of all rounds and clients.
        flops: of all local training and of the server.
        privacy: client -> what its uploads up to now tell about one of its samples.
        train_seconds, evaluation_seconds: inside the clients.
        seconds: of the whole run.
        missing: who was missing in which exchange, and why.
        exchanged: scores after the last exchange; not in checkpoints, since a run that goes on makes it anew.
    """

    tasks: Mapping[int, Sequence[str]]
    round: int = 0
    until: int = 0
    history: list[Measurement] = field(default_factory=list)
    losses: dict[int, list[float | None]] = field(default_factory=dict)
    stepless: dict[int, list[int]] = field(default_factory=dict)
    messages: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    flops: float = 0.0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    seconds: float = 0.0
    privacy: dict[int, PrivacySpent] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    exchanged: ExchangedScores | None = None

    def add_training(self, client: int, round_: int, done: Mapping[str, float], *, up: int, down: int) -> None:
        """Account for one client's round.

        Args:
            client: its id.
            round_: from 1.
            done: what the client says: ``loss``, ``steps``, ``flops``, ``seconds``, and what its uploads tell.
            up: bytes of its upload.
            down: bytes of its download.

        Raises:
            WireError: the client's account of privacy cannot be used; nothing is accounted for then.
        """
        privacy = privacy_spent(client, done)
        losses = self.losses.setdefault(client, [])
        losses += [None] * (round_ - 1 - len(losses))
        losses.append(done["loss"])
        if not done["steps"]:
            self.stepless.setdefault(client, []).append(round_)
        self.messages += 1
        self.bytes_up += up
        self.bytes_down += down
        self.flops += done["flops"]
        self.train_seconds += done["seconds"]
        if privacy is not None:
            self.privacy[client] = privacy

    def forget_measurement(self) -> None:
        """Undo the last measurement, which is made anew."""
        last = self.history.pop().round
        self.missing = [each for each in self.missing if (each.exchange, each.round) != ("evaluation", last)]

    def last_trained(self, client: int, *, before: int) -> int:
        """Return the last round before one in which a client has trained and its answer was used; 0: none.

        Args:
            client: its id.
            before: that round.
        """
        losses = self.losses.get(client, [])[: before - 1]
        return max((round_ for round_, loss in enumerate(losses, start=1) if loss is not None), default=0)

    def rows(self) -> list[dict[str, object]]:
        """Rows of ``rounds.csv``."""
        rows: list[dict[str, object]] = []
        for measurement in self.history:
            own, others = (client_means(measurement, self.tasks, own=flag) for flag in (True, False))
            for client in measurement.scores:
                losses = self.losses.get(client, [])
                known = 0 < measurement.round <= len(losses) and measurement.round not in self.stepless.get(client, [])
                loss = losses[measurement.round - 1] if known else None
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

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        table = {
            entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self) if entry.name not in _NOT_KEPT
        }
        history = [{"round": each.round, "scores": each.scores} for each in self.history]
        privacy = {client: vars(told) for client, told in self.privacy.items()}
        return {**table, "history": history, "privacy": privacy, "missing": [vars(each) for each in self.missing]}

    @classmethod
    def from_json(cls, tasks: Mapping[int, Sequence[str]], table: Mapping[str, Any], *, path: Path) -> RunHistory:
        """Return the history of a checkpoint; JSON's keys are text, clients are numbers.

        Args:
            tasks: each client's own tasks.
            table: content of the checkpoint's ``progress.json``.
            path: of the checkpoint, for the error.

        Raises:
            RunError: an entry is not what it should be.
        """
        whole = {"until": table.get("round"), **table, "tasks": tasks}
        return parsed(cls, whole, path=path, advice="remove its folder to go on from the one before")

    # ---- what there is to tell -----------------------------------------------------------------------------------

    @property
    def costs(self) -> Costs:
        """What the run has cost up to now."""
        messages = max(self.messages, 1)
        return Costs(
            seconds=round(self.seconds, 3),
            train_seconds=round(self.train_seconds, 3),
            evaluation_seconds=round(self.evaluation_seconds, 3),
            flops=self.flops,
            messages=self.messages,
            bytes_up=self.bytes_up / messages,
            bytes_down=self.bytes_down / messages,
            total_bytes_up=self.bytes_up,
            total_bytes_down=self.bytes_down,
        )

    def privacy_account(self, guarantee: str) -> PrivacyAccount | None:
        """Return what is promised, the largest epsilon, and each client's; None if nothing is said of privacy.

        Args:
            guarantee: what the method promises, in words; empty if it says nothing.
        """
        if not guarantee:
            return None
        clients = {client: self.privacy[client] for client in sorted(self.privacy)}
        epsilon = max((told.epsilon for told in clients.values()), default=None)
        delta = max((told.delta for told in clients.values()), default=None)
        return PrivacyAccount(guarantee, epsilon, delta, clients)

    def results(self, settings: RunSettings, samples: SampleScores, *, guarantee: str = "") -> RunResults:
        """Return what came out of the run.

        Args:
            settings: the run's.
            samples: scores of single samples of the final round.
            guarantee: what the method says of the privacy of its uploads.
        """
        rounds = milestones(settings.rounds, settings.evaluation.milestones, planned=settings.horizon)
        measured = [each for each in self.history if each.round in rounds]
        own, others = (summarise(measured, samples, self.tasks, own=part) for part in (True, False))
        return RunResults(
            scenario=settings.scenario.name,
            method=settings.method,
            engine=settings.engine,
            seed=settings.seed,
            rounds=self.round,
            protocol=settings.scenario.protocol,
            costs=self.costs,
            self_=own,
            others=others,
            privacy=self.privacy_account(guarantee),
            initial=InitialScores(self._initial(own=True), self._initial(own=False)),
            exchanged=self.exchanged,
            missing=tuple(self.missing),
        )

    def exchanged_scores(self, samples: SampleScores, costs: ExchangeCosts | None) -> ExchangedScores:
        """Return Self and Others after the last exchange.

        Args:
            samples: scores of single samples; those after training where the exchange changes nothing.
            costs: of the exchange; None where nothing was exchanged.
        """
        measured = [Measurement.of(self.round, samples)]
        own, others = (summarise(measured, samples, self.tasks, own=part) for part in (True, False))
        return ExchangedScores(costs is not None, own, others, costs or ExchangeCosts())

    def _initial(self, *, own: bool) -> float | None:
        """The base models' mean over the clients that are measured at the end; None if one was not measured then."""
        first, last = (client_means(each, self.tasks, own=own) for each in (self.history[0], self.history[-1]))
        return statistics.fmean(first[client] for client in last) if last and last.keys() <= first.keys() else None


def privacy_spent(client: int, done: Mapping[str, float]) -> PrivacySpent | None:
    """Return what a client's uploads up to now tell, by its own account; None if it keeps none.

    Args:
        client: its id.
        done: the metrics of its answer.

    Raises:
        WireError: it keeps account of something else.
    """
    told = {key.removeprefix(PRIVACY): value for key, value in done.items() if key.startswith(PRIVACY)}
    try:
        return PrivacySpent(**told) if told else None
    except TypeError:
        expected = "expected epsilon, delta and, if known, noise_multiplier"
        raise WireError(f"client {client} keeps account of {', '.join(told)}; {expected}") from None
