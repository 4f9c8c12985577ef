"""A handful of questions: what the base model, local-only training, and the method answer."""

from __future__ import annotations

from dataclasses import dataclass

from fedmosaic.data.sample import IMAGE_MARK
from fedmosaic.federation.examples import Example
from fedmosaic.report.record import RunRecord

_MOST_CLIENTS = 12
"""Clients whose questions are on the page; images make it heavy."""
_IMAGES = ("data:image/png;base64,", "data:image/jpeg;base64,")


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        task: its name.
        text: without marks of images.
        images: data URIs of pictures, nothing else.
        right: the right answer.
        answers: (who answers, what, whether it is the right answer's very text).
    """

    task: str
    text: str
    images: list[str]
    right: str
    answers: list[tuple[str, str, bool]]


def questions(record: RunRecord) -> dict[int, list[Question]]:
    """Return the questions by client; empty where none were kept here, or the run is not done.

    Args:
        record: the run.
    """
    shown = list(record.examples)[:_MOST_CLIENTS]
    return {client: [_question(record, client, each) for each in record.examples[client]] for client in shown}


def _question(record: RunRecord, client: int, example: Example) -> Question:
    beside = record.reference.examples.get(client, ()) if record.reference else ()
    local = [each for each in beside if (each.task, each.question) == (example.task, example.question)]
    told = {
        "at the start": example.answered.get("start"),
        "local only": local[0].answered.get("final") if local else None,
        record.settings.method: example.answered.get("final"),
        "after the last exchange": example.answered.get("exchanged"),
    }
    return Question(
        example.task,
        " ".join(example.question.replace(IMAGE_MARK, " ").split()),
        [each for each in example.images if each.startswith(_IMAGES)],
        example.answer,
        [(who, said, _same(said, example.answer)) for who, said in told.items() if said is not None],
    )


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()
