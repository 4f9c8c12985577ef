"""Was it worth it? Differences of scores with their intervals, and the answer in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedmosaic.evaluation.summary import SampleScores
from fedmosaic.experiments.paired import Difference, sampled_difference
from fedmosaic.federation.run_folder import When
from fedmosaic.report.exchange import nothing
from fedmosaic.report.record import Metric, RunRecord
from fedmosaic.report.text import between, plural, points

Against = Literal["start", "local", "training"]
"""The base models; local-only training; for scores after the last exchange, those after training."""
PARTS: Mapping[Metric, str] = {"self": "their own tasks", "others": "the other clients' tasks"}
MOST_CLIENTS = 40
"""Clients that are judged one by one: each takes an interval over all tasks."""
_FEW = 64


@dataclass(frozen=True)
class Change:
    """A difference of scores of the same test questions, and how sure it is.

    Attributes:
        difference: the mean, and its 95 % interval over tasks and questions.
        questions: how many were compared, each counted once.
    """

    difference: Difference
    questions: int

    @property
    def word(self) -> str:
        """``higher``, ``lower`` or ``unclear``."""
        if not self.difference.significant:
            return "unclear"
        return "higher" if self.difference.mean > 0 else "lower"

    @property
    def interval(self) -> str:
        """In points, e.g. ``-1.2 to +2.3``."""
        return between(self.difference.low, self.difference.high)


@dataclass(frozen=True)
class Answer:
    """Whether it was worth it.

    Attributes:
        word: ``Yes``, ``No``, ``Partly``, ``Unclear`` or ``Not known``.
        text: why, in a sentence or two.
    """

    word: str
    text: str


def change(record: RunRecord, metric: Metric, clients: Sequence[int], *, against: Against) -> Change | None:
    """Return the difference of Self or Others of some clients, question by question.

    Args:
        record: the run.
        metric: Self or Others.
        clients: whose mean.
        against: what is subtracted. The last exchange's scores are compared with those after training.

    Returns:
        None where single questions' scores were not kept of both, or there is no such task.
    """
    when: When = "exchanged" if against == "training" else "final"
    mine, theirs = record.samples.get(when), _other_side(record, against)
    return None if mine is None or theirs is None else _change(record, [mine], [theirs], metric, clients)


def change_over_seeds(mine: Sequence[RunRecord], theirs: Sequence[RunRecord], metric: Metric) -> Change | None:
    """Return the difference between two methods' Self or Others, over those seeds that both have.

    Args:
        mine: one method's finished runs of a scenario.
        theirs: the other's.
        metric: Self or Others.

    Returns:
        None where no seed of both has single questions' scores.
    """
    others = {each.settings.seed: each for each in theirs if "final" in each.samples}
    pairs = [
        (each, others[each.settings.seed]) for each in mine if "final" in each.samples and each.settings.seed in others
    ]
    if not pairs:
        return None
    samples = [[record.samples["final"] for record in side] for side in zip(*pairs, strict=True)]
    return _change(pairs[0][0], samples[0], samples[1], metric, pairs[0][0].members(metric))


def _change(
    record: RunRecord,
    mine: Sequence[SampleScores],
    theirs: Sequence[SampleScores],
    metric: Metric,
    clients: Sequence[int],
) -> Change | None:
    tasks = {client: record.scored(metric, client) for client in clients}
    try:
        found = sampled_difference(mine, theirs, tasks)
    except ValueError:  # other test samples: nothing to pair
        return None
    counted = {task: len(scores) for client in clients for task, scores in mine[0].get(client, {}).items()}
    asked = {task for chosen in tasks.values() for task in chosen}
    questions = sum(count for task, count in counted.items() if task in asked)
    return None if found is None else Change(found, questions)


def answer(record: RunRecord) -> Answer:
    """Return whether the run's clients are better off than if each had trained alone.

    Args:
        record: the run.
    """
    if silent := nothing(record):
        return Answer("No", f"{silent}; a difference to local-only training is chance.")
    if record.results is None:
        return Answer("Not known", "The run is not finished; only its end is measured on every question.")
    if record.reference is None:
        return Answer("Not known", "There is no reference run beside it to compare with (run with --reference).")
    if record.as_long is None:
        return Answer("Not known", "The local-only training beside it is not finished, or has another length.")
    changes = against_alone(record)
    if not changes:
        return Answer(
            "Not known", "There are no scores of single questions of both that pair, so chance cannot be told apart."
        )
    return judged(changes, "training alone")


def against_alone(record: RunRecord) -> dict[Metric, Change]:
    """Return the differences of Self and Others from local-only training, of all clients, as far as they are known.

    Args:
        record: the run.
    """
    return {part: found for part in PARTS if (found := change(record, part, record.members(part), against="local"))}


def chance(found: Change) -> str:
    """Return how sure a difference is, in words.

    Args:
        found: the difference.
    """
    if found.word != "unclear":
        return f"95 % interval {found.interval}"
    return f"95 % interval {found.interval}: cannot be told from chance with {plural(found.questions, 'question')}"


def gained(record: RunRecord, metric: Metric) -> str:
    """Return which clients are surely better or worse off than alone, in a sentence; empty if that is not known.

    Args:
        record: the run.
        metric: Self or Others.
    """
    members = record.members(metric)
    if not 1 < len(members) <= MOST_CLIENTS:
        return ""
    words: dict[str, list[int]] = {"higher": [], "lower": [], "unclear": []}
    for client in members:
        if (found := change(record, metric, (client,), against="local")) is None:
            return ""
        words[found.word].append(client)
    said = [f"surely {word} for {_named(words[word])}" for word in ("higher", "lower")]
    rest = f"; of {plural(len(words['unclear']), 'client')} it cannot be told" if words["unclear"] else ""
    return f"On {PARTS[metric]}, compared with training alone: {', '.join(said)}{rest}."


def judged(changes: Mapping[Metric, Change], rival: str) -> Answer:
    """Return whether differences are gains, losses, or neither.

    Args:
        changes: of Self and Others, as far as there are any.
        rival: against what.
    """
    better, worse = ([part for part, each in changes.items() if each.word == word] for word in ("higher", "lower"))
    amounts = {part: f"{points(each.difference.mean)} points on {PARTS[part]}" for part, each in changes.items()}

    def listed(parts: Sequence[Metric]) -> str:
        return " and ".join(f"{amounts[part]} ({changes[part].interval})" for part in parts)

    if better and worse:
        return Answer("Partly", f"Against {rival}: {listed([*better, *worse])}.")
    if better or worse:
        rest = [PARTS[part] for part in changes if part not in (*better, *worse)]
        unclear = f" On {rest[0]} no difference can be told from chance." if rest else ""
        return Answer("Yes" if better else "No", f"Against {rival}: {listed(better or worse)}.{unclear}")
    asked = max(each.questions for each in changes.values())
    few = " They are few: more of them would say more." if asked < _FEW else ""
    told = f"It cannot be told from chance with {plural(asked, 'question')}.{few}"
    return Answer("Unclear", f"Against {rival}: {listed(list(changes))}. {told}")


def _other_side(record: RunRecord, against: Against) -> SampleScores | None:
    if against == "local":
        return record.alone
    return record.samples.get("start" if against == "start" else "final")


def _named(clients: Sequence[int]) -> str:
    if not clients:
        return "nobody"
    return f"client{'s' if len(clients) > 1 else ''} {', '.join(map(str, clients))}"
