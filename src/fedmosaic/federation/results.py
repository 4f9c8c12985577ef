"""What came out of a run, as records; ``results.json`` is one of them, flat where it always was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import Field, TypeAdapter, ValidationError

from fedmosaic.config.validation import explain
from fedmosaic.errors import RunError
from fedmosaic.evaluation import Summary

Record = TypeVar("Record")


@dataclass(frozen=True)
class Costs:
    """What a run has cost up to now.

    Attributes:
        seconds: of the whole run, on the server's clock.
        train_seconds, evaluation_seconds: inside the clients, all together.
        flops: of all local training and of the server.
        messages: uploads, which is also the number of downloads; None in files of versions that did not count them.
        bytes_up, bytes_down: of one message, on average.
        total_bytes_up, total_bytes_down: of all messages; None where they were not counted.

    Nothing is counted of a client that was missing in a round: what it did, nobody has told.
    """

    seconds: float
    train_seconds: float
    evaluation_seconds: float
    flops: float
    messages: int | None
    bytes_up: float
    bytes_down: float
    total_bytes_up: int | None = None
    total_bytes_down: int | None = None


@dataclass(frozen=True)
class PrivacySpent:
    """What the uploads of one client up to now tell about any one of its samples.

    Attributes:
        epsilon, delta: the guarantee.
        noise_multiplier: of every release; None if the method does not say.
    """

    epsilon: float
    delta: float
    noise_multiplier: float | None = None


@dataclass(frozen=True)
class PrivacyAccount:
    """What the uploads of all clients tell.

    Attributes:
        guarantee: what the method promises, in words.
        epsilon, delta: the largest of any client; None if no client keeps account.
        per_client: by client id.
    """

    guarantee: str
    epsilon: float | None = None
    delta: float | None = None
    per_client: Mapping[int, PrivacySpent] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The form in ``results.json``; JSON's keys are text."""
        return {**vars(self), "per_client": {str(client): vars(told) for client, told in self.per_client.items()}}


@dataclass(frozen=True)
class InitialScores:
    """Scores of the base models, means over the clients that are there at the end; None if nobody has such tasks.

    Attributes:
        self_: on the clients' own tasks.
        others: on the other clients' tasks.
    """

    self_: Annotated[float | None, Field(alias="self")] = None
    others: float | None = None


@dataclass(frozen=True)
class ExchangeCosts:
    """What the last exchange has cost, beside the run's own costs; its time is in those.

    Attributes:
        flops: of the server.
        messages: downloads.
        bytes_down: of one download, on average.
        total_bytes_down: of all downloads.
    """

    flops: float = 0.0
    messages: int = 0
    bytes_down: float = 0.0
    total_bytes_down: int = 0


@dataclass(frozen=True)
class ExchangedScores:
    """Scores after the last exchange: clients have taken up one more download and have not trained on it.

    Attributes:
        changed: whether the method's answers depend on it; if not, nothing was sent, and the scores are those after
            training.
        self_, others, unseen: as in :class:`RunResults`; ``auc`` is ``last``.
        costs: of the exchange.
    """

    changed: bool
    self_: Annotated[Summary | None, Field(alias="self")] = None
    others: Summary | None = None
    costs: ExchangeCosts = ExchangeCosts()
    unseen: Summary | None = None

    def as_json(self) -> dict[str, Any]:
        """The form in ``results.json``."""
        scores = {"self": self.self_, "others": self.others, "unseen": self.unseen}
        parts = {name: part and part.as_json() for name, part in scores.items()}
        return {"changed": self.changed, **parts, "costs": vars(self.costs)}


@dataclass(frozen=True)
class Missing:
    """A client that was asked in an exchange, and of whose answer nothing was used.

    Attributes:
        round: from 0.
        client: its id.
        exchange: ``training``, ``evaluation`` or ``last exchange``.
        why: not there, failed, no answer within the deadline, or refused, and the reason.
    """

    round: int
    client: int
    exchange: str
    why: str


@dataclass(frozen=True)
class RunResults:
    """What came out of a finished run: the content of ``results.json``.

    Attributes:
        scenario, method, engine, seed, protocol: from the settings.
        rounds: after how many the run ended.
        costs: time, compute and traffic.
        self_: scores on the clients' own tasks.
        others: scores on the other clients' tasks; None if nobody has others.
        unseen: scores on tasks that no client trained on; None until they are measured.
        privacy: what uploads tell; None if the method says nothing of it.
        initial: scores before the first round.
        exchanged: scores after the last exchange; None if it was not made.
        missing: who was missing in which exchange, and why. Scores are means over the clients that were measured: one
            that was missing at the end is None in ``per_client``, and counts nowhere.
    """

    scenario: str
    method: str
    engine: str
    seed: int
    rounds: int
    protocol: str
    costs: Costs
    self_: Annotated[Summary | None, Field(alias="self")] = None
    others: Summary | None = None
    unseen: Summary | None = None
    privacy: PrivacyAccount | None = None
    initial: InitialScores = InitialScores()
    exchanged: Annotated[ExchangedScores | None, Field(alias="final_exchange")] = None
    missing: tuple[Missing, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        parts = {"self": self.self_, "others": self.others, "unseen": self.unseen}
        return {
            "scenario": self.scenario,
            "method": self.method,
            "engine": self.engine,
            "seed": self.seed,
            "rounds": self.rounds,
            "protocol": self.protocol,
            **vars(self.costs),
            **{name: part and part.as_json() for name, part in parts.items()},
            "privacy": self.privacy and self.privacy.as_json(),
            "initial": {"self": self.initial.self_, "others": self.initial.others},
            "final_exchange": self.exchanged and self.exchanged.as_json(),
            "missing": [vars(each) for each in self.missing],
        }

    @classmethod
    def from_json(cls, table: Mapping[str, Any], *, path: Path, advice: str) -> RunResults:
        """Return the record of a ``results.json``.

        Args:
            table: its content.
            path: of the file, for the error.
            advice: ends the error: what to do if it is damaged.

        Raises:
            RunError: an entry is missing or is not what it should be.
        """
        costs = parsed(Costs, {"messages": None, **table}, path=path, advice=advice)
        told = {"privacy": table.get("privacy") or None}  # an empty table: says nothing
        return parsed(cls, {**table, **told, "costs": costs}, path=path, advice=advice)


def parsed(kind: type[Record], table: Mapping[str, Any], *, path: Path, advice: str) -> Record:
    """Return the record of a table that was read from one of our own files; what a record does not know is left out.

    Args:
        kind: the record.
        table: what was read.
        path: of the file, for the error.
        advice: ends the error: what to do if it is damaged.

    Raises:
        RunError: an entry is missing or is not what it should be.
    """
    try:
        record: Record = _adapter(cast("Any", kind)).validate_python(dict(table))
    except ValidationError as error:
        raise RunError(f"{path} is damaged ({explain(error, kind)}); {advice}") from None
    return record


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
