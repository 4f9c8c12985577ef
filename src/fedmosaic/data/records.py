"""One record of a data file: the messages of its conversation, and its images.

{"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}, ...], "image": path or paths}

or the same with ``messages``, ``role``, ``content`` and ``images``. Roles decide who speaks; where no message has one,
questions and answers alternate. A key that is neither used nor known to be harmless is refused: it may change what the
record means.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

from fedmosaic.data.options import match_answer, parse_options
from fedmosaic.data.sample import IMAGE_MARK
from fedmosaic.data.texts import is_blank, quoted
from fedmosaic.errors import DataError

Role = Literal["system", "user", "assistant"]

ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
# Keys of a record's origin and properties, which do not affect its questions and answers.
_HARMLESS = """
    id idx index uid uuid key source data_source dataset dataset_name subset split task task_name task_type type
    question_type answer_type category categories topic domain subject language lang model license author date
    timestamp created_at metadata meta tags width height image_size difficulty comment comments note notes
"""
HARMLESS = frozenset(_HARMLESS.split())
_CONVERSATION, _IMAGES = ("conversations", "messages"), ("image", "images")
_ROLE, _TEXT = ("from", "role"), ("value", "content")
# Spellings of an image's place that occur in published files, e.g. <image1>, <Image>, <ImageHere>, <|image_1|>.
MARK = re.compile(
    r"<\|?\s*image(?:[ _-]?(?:here|placeholder|token|pad)|[ _-]?(?P<number>\d{1,4}))?\s*[|/]?>", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: who speaks.
        text: the content; images are marked by ``<image>``.
    """

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The content of a record.

    Attributes:
        turns: the messages, in order.
        images: the paths of the images, in the order of their marks.
    """

    turns: tuple[Message, ...]
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a conversation.

    Attributes:
        question: the user's text since the answer before.
        prompt: the whole text before the answer; it ends with the question.
        text: the answer, spelled as the option that it names.
        options: the answers to choose from, or None.
    """

    question: str
    prompt: str
    text: str
    options: tuple[str, ...] | None


def parse_conversation(record: object) -> Conversation:
    """Check a record and return its conversation.

    Args:
        record: the decoded JSON.

    Raises:
        DataError: the record has not the form above, or its messages are in no order in which they can be answered.
    """
    if not isinstance(record, dict):
        raise DataError(f"expected an object with 'conversations', found {quoted(record)}")
    check_keys("the record", record, (*_CONVERSATION, *_IMAGES))
    said = either("the record", record, _CONVERSATION)
    if not isinstance(said, list) or not said:
        raise DataError(f"expected 'conversations' with question and answer in turn, found {quoted(said)}")
    turns = _turns(said)
    _check_order(turns)
    marks = [mark for turn in turns for mark in MARK.finditer(turn.text)]
    images = _by_marks(_images(record), [mark["number"] for mark in marks])
    return Conversation(tuple(Message(turn.role, MARK.sub(IMAGE_MARK, turn.text)) for turn in turns), images)


def answers(conversation: Conversation, *, is_open: bool) -> Iterator[Answer]:
    """Yield the answers of a conversation in order.

    Messages of the assistant before any question are part of the prompt.

    Args:
        conversation: the messages.
        is_open: whether options that a question lists are left in the text only.

    Raises:
        DataError: an answer is not among the options of its question.
    """
    said: list[str] = []
    asked: list[str] = []
    for turn in conversation.turns:
        text = turn.text
        if turn.role == "user":
            asked.append(text)
        elif turn.role == "assistant" and asked:
            question = "\n".join(asked)
            text, options = (text, None) if is_open else _chosen(question, text)
            yield Answer(question, "\n".join(said), text, options)
            asked = []
        if text:
            said.append(text)


def _chosen(question: str, answer: str) -> tuple[str, tuple[str, ...] | None]:
    """Return the answer as its option spells it, and the options that the question lists."""
    options = parse_options(question, answer)
    if options is None:
        return answer, None
    matched = match_answer(answer, options)
    if matched is None:
        raise DataError(
            f"the answer {quoted(answer)} is not one of the options {quoted(list(options))} of the question; mend one "
            "of them, or name the task in the scenario's open_tasks if its answers are open"
        )
    return matched, options


def check_keys(what: str, table: Mapping[str, Any], used: Collection[str]) -> None:
    """Refuse keys whose content would be lost; keys of comments and of empty values have none.

    Args:
        what: names the table in the error.
        table: what has the keys.
        used: the keys that are read.

    Raises:
        DataError: there are such keys.
    """
    if unused := unused_keys(table, used):
        raise DataError(
            f"{what} has {quoted(unused)}, which would not be used; known are {', '.join(used)}: "
            "remove the key, or let its name begin with _ if it is a comment"
        )


def unused_keys(table: Mapping[str, Any], used: Collection[str]) -> list[str]:
    """Return the keys whose content would be lost.

    Args:
        table: what has the keys.
        used: the keys that are read.
    """
    return [
        key
        for key, value in table.items()
        if key not in used
        and key.lower() not in HARMLESS
        and not key.startswith("_")
        and not key.endswith("_id")
        and not _is_nothing(value)
    ]


def either(what: str, table: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the value under one of several alternative keys; None if there is none.

    Args:
        what: names the table in the error.
        table: what has the keys.
        names: the keys.

    Raises:
        DataError: there are different values under two of them.
    """
    given = {name: table[name] for name in names if name in table}
    told = {name: value for name, value in given.items() if not _is_nothing(value)} or given
    value = next(iter(told.values()), None)
    if len(told) > 1 and any(other != value for other in told.values()):
        raise DataError(f"{what} has {' and '.join(map(repr, told))}, which disagree; keep one of them")
    return value


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def _turns(said: Sequence[object]) -> list[Message]:
    tables: list[dict[str, Any]] = []
    for number, turn in enumerate(said, start=1):
        if not isinstance(turn, dict):
            raise DataError(f"turn {number} is {quoted(turn)}; expected an object with a text 'value'")
        check_keys(f"turn {number}", turn, (*_ROLE, *_TEXT))
        tables.append(turn)
    names = [either(f"turn {number}", turn, _ROLE) for number, turn in enumerate(tables, start=1)]
    if all(_is_nothing(name) for name in names):
        names = ["user" if index % 2 == 0 else "assistant" for index in range(len(tables))]
    return [
        _turn(f"turn {number}", name, turn) for number, (name, turn) in enumerate(zip(names, tables, strict=True), 1)
    ]


def _turn(what: str, name: object, table: Mapping[str, Any]) -> Message:
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise DataError(f"{what} is by {quoted(name)}; expected one of {', '.join(ROLES)} in 'from' (or in no turn)")
    text = either(what, table, _TEXT)
    if not isinstance(text, str):
        raise DataError(f"{what} says {quoted(text)}; expected a text 'value', in quotes")
    text = text.strip()
    if is_blank(text) and role != "system":
        raise DataError(f"{what} ({quoted(name)}) is empty; expected a text")
    if role == "assistant" and (mark := MARK.search(text)):
        raise DataError(f"{what} is an answer and holds {quoted(mark.group())}; images can only be shown in questions")
    return Message(role, text)


def _check_order(turns: Sequence[Message]) -> None:
    """Refuse a conversation in which a question or an answer has no partner."""
    roles = [turn.role for turn in turns]
    begin = next((i for i, role in enumerate(roles) if role != "system"), len(roles))
    if "system" in roles[begin:]:
        number = roles.index("system", begin) + 1
        raise DataError(f"turn {number} is a system message; expected it before all questions and answers")
    for number, (one, two) in enumerate(pairwise(roles), start=1):
        if one == two == "assistant":
            raise DataError(f"turns {number} and {number + 1} are both answers; expected question and answer in turn")
    if "user" not in roles:
        raise DataError("the conversation has no question; expected question and answer in turn")
    if roles[-1] != "assistant":
        raise DataError(
            "the conversation ends with a question that has no answer; expected question and answer in turn"
        )


def _images(record: Mapping[str, Any]) -> list[str]:
    """Return the paths under ``image`` or ``images``; under both they must be the same."""
    listed = {name: _paths(name, record.get(name)) for name in _IMAGES}
    one, two = listed.values()
    if one and two and one != two:
        raise DataError(f"'image' and 'images' disagree: {quoted(one)} and {quoted(two)}; keep one of them")
    return one or two


def _paths(name: str, value: object) -> list[str]:
    if _is_nothing(value):
        return []
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
        raise DataError(f"expected {name!r} to be a path or a list of paths, found {quoted(value)}")
    return cast(list[str], paths)


def _by_marks(images: Sequence[str], numbers: Sequence[str | None]) -> tuple[str, ...]:
    """Return the images in the order of their marks in the text.

    Args:
        images: as the record lists them.
        numbers: for each mark of the text its number, from 0 or 1 on, or None if it has none.

    Raises:
        DataError: the numbers of marks and images differ, or the marks name an image twice or one that does not exist.
    """
    if len(numbers) != len(images):
        raise DataError(f"the text has {len(numbers)} {IMAGE_MARK} mark(s) but the record has {len(images)} image(s)")
    places = list(range(len(images)))
    for first in (1, 0):
        order = [
            place if number is None else int(number) - first for place, number in zip(places, numbers, strict=True)
        ]
        if order == places or (None not in numbers and sorted(order) == places):
            return tuple(images[place] for place in order)
    raise DataError(
        f"the marks are numbered {quoted([number or '-' for number in numbers])}; "
        f"expected each of the {len(images)} images once, counted from 1 or from 0"
    )
