"""The tasks, and which client has which in which order. Fixed before any method was run; never tuned to one.

As in mosaic40, a client has mostly one family of tasks, and they come one after the other. Each skill occurs in two
domains, on two clients, whose base models are of one family or of two: some tasks can help each other.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from fedmosaic.data.distinct import Drawn, Wanted, distinct
from fedmosaic.data.sample import Sample, Task
from fedmosaic.data.words.knowledge import KNOWLEDGE, in_common
from fedmosaic.data.words.language import LANGUAGE
from fedmosaic.data.words.numbers import NUMBERS, difference, even_or_odd
from fedmosaic.data.words.parts import SEED, TEST, TRAIN, VALIDATION
from fedmosaic.data.words.questions import Ask, Question
from fedmosaic.seeding import derive

CLIENTS: tuple[tuple[str, str, str], ...] = (
    ("opposite@adjectives", "inflect@plural", "sentiment@food"),
    ("word-order@statements", "sentiment@travel", "inflect@past"),
    ("opposite@verbs", "kind@made", "word-order@questions"),
    ("sum@numbers", "larger@lengths", "next@calendar"),
    ("convert@length", "next@numbers", "larger@numbers"),
    ("sum@shopping", "use@places", "convert@time"),
    ("kind@nature", "same-kind@made", "odd-one-out@nature"),
    ("odd-one-out@made", "use@purposes", "same-kind@nature"),
)
SEEN: tuple[str, ...] = tuple(name for client in CLIENTS for name in client)

_UNSEEN: Mapping[str, tuple[str, Ask]] = {
    "parity@numbers": ("numbers", even_or_odd),
    "difference@numbers": ("numbers", difference),
    "in-common@things": ("knowledge", in_common),
}
UNSEEN: tuple[str, ...] = tuple(_UNSEEN)
_ASKED: dict[str, tuple[str, Ask]] = {
    **{name: ("language", ask) for name, ask in LANGUAGE.items()},
    **{name: ("numbers", ask) for name, ask in NUMBERS.items()},
    **{name: ("knowledge", ask) for name, ask in KNOWLEDGE.items()},
    **_UNSEEN,
}

SAMPLES = {TRAIN: 240, VALIDATION: 60, TEST: 100}
_LEAST = {TRAIN: 100, VALIDATION: 15, TEST: 30}  # a list of words allows fewer different questions than SAMPLES
_MAX_REPEATS = 400  # so many repeated questions in a row end the search for new ones


def make_task(name: str) -> Task:
    """Return a task.

    Args:
        name: ``skill@domain``, of :data:`SEEN` or :data:`UNSEEN`.

    Raises:
        DataError: its words suffice for too few different questions.
    """
    family, ask = _ASKED[name]
    train, validation, test = (_samples(name, ask, part) for part in SAMPLES)
    return Task(name, family, train, validation, test)


def _samples(name: str, ask: Ask, part: str) -> tuple[Sample, ...]:
    """Return samples with balanced answers that differ in their words, whatever the words' order.

    If the words do not suffice, train samples may differ in their options alone.
    """
    rng = random.Random(derive(SEED, "words", name, part))

    def draw(key: str, options_differ: bool) -> Drawn:
        question = ask(part, rng)
        options = tuple(sorted(question.options or ()))
        text = tuple(sorted(question.text.split()))
        asked = (text, options if options_differ or _says_all(question) else ())
        return Drawn(question.sample(key), asked, {asked, (text, options)})

    wanted = Wanted(name, part, SAMPLES[part], _LEAST[part], _MAX_REPEATS, options_may_differ=part == TRAIN)
    return distinct(wanted, draw)


def _says_all(question: Question) -> bool:
    """Whether the question's content is in its options alone, as in: which of these does not belong?"""
    return question.text.startswith(("Which of these", "Which statement", "Which question"))
