"""A handful of questions: what the base model, local-only training, and the method answer."""

from __future__ import annotations

from dataclasses import dataclass

from fedmosaic.data.sample import IMAGE_MARK
from fedmosaic.federation.examples import Example, same, short
from fedmosaic.report.record import RunRecord

_MOST_CLIENTS = 12
"""Clients whose questions are on the page; images make it heavy."""
_IMAGES = ("data:image/png;base64,", "data:image/jpeg;base64,")


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        task: its name.
        text: without marks of images, shortened.
        images: data URIs of pictures, nothing else.
        right: the right answer, shortened.
        answers: (who answers, what, shortened, whether it is the right answer's very text).
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
    return {client: _of_client(record, client) for client in shown}


def _of_client(record: RunRecord, client: int) -> list[Question]:
    mine = record.examples[client]
    beside = same(mine, record.as_long.examples.get(client, ()) if record.as_long else ())
    return [_question(record, example, local) for example, local in zip(mine, beside, strict=True)]


def _question(record: RunRecord, example: Example, local: Example | None) -> Question:
    told = {
        "at the start": example.answered.get("start"),
        "local only": local.answered.get("final") if local else None,
        record.settings.method: example.answered.get("final"),
        "after the last exchange": example.answered.get("exchanged"),
    }
    return Question(
        example.task,
        short(" ".join(example.question.replace(IMAGE_MARK, " ").split())),
        [each for each in example.images if each.startswith(_IMAGES)],
        short(example.answer),
        [(who, short(said), _same_text(said, example.answer)) for who, said in told.items() if said is not None],
    )


def _same_text(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()
