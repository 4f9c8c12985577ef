"""Tasks about things: their kind, what does not belong, what they are for and where they are."""

from __future__ import annotations

import random
from functools import partial

from fedmosaic.data.words.lexicon import ALSO_FOUND, MADE, NATURE, PLACES, USES, article, things
from fedmosaic.data.words.parts import part_of_list
from fedmosaic.data.words.questions import Ask, Question, choice, ordered

DOMAINS = {"nature": tuple(NATURE), "made": tuple(MADE)}
YES_NO = ("yes", "no")


def own_things(kind: str, part: str) -> tuple[str, ...]:
    """Return the things of a kind that are a part's; one division for all tasks.

    Args:
        kind: of things.
        part: whose things.
    """
    return part_of_list(f"things {kind}", things(kind), part)


def kind_of(domain: str, part: str, rng: random.Random) -> Question:
    """Ask what kind of thing something is. See :data:`Ask`.

    Args:
        domain: ``nature`` or ``made``.
        part: whose things.
        rng: draws.
    """
    kind = rng.choice(DOMAINS[domain])
    thing = rng.choice(own_things(kind, part))
    return choice(f"What kind of thing is {_named(thing, kind)}?", kind, DOMAINS[domain], rng)


def odd_one_out(domain: str, part: str, rng: random.Random) -> Question:
    """Ask which of four things is of another kind. See :data:`Ask`, and :func:`kind_of` for its arguments."""
    kind, other = rng.sample(DOMAINS[domain], 2)
    odd = rng.choice(own_things(other, part))
    return ordered("Which of these does not belong with the others?", odd, (odd, *_some(kind, part, rng, 3)), rng)


def same_kind(domain: str, part: str, rng: random.Random) -> Question:
    """Ask whether two things are of the same kind. See :data:`Ask`, and :func:`kind_of` for its arguments."""
    kind, other = rng.sample(DOMAINS[domain], 2)
    same = rng.random() < 0.5
    one, two = _some(kind, part, rng, 2)
    if not same:
        two = rng.choice(own_things(other, part))
    text = f"Are {_named(one, kind)} and {_named(two, kind if same else other)} the same kind of thing?"
    return Question(text, YES_NO[not same], YES_NO)


def purpose(part: str, rng: random.Random) -> Question:
    """Ask what a thing is for. See :data:`Ask`."""
    kind = rng.choice(tuple(USES))
    thing = rng.choice(own_things(kind, part))
    return choice(f"What {_is(thing)} {_named(thing, kind)} for?", USES[kind], USES.values(), rng)


def place(part: str, rng: random.Random) -> Question:
    """Ask where a thing is found. See :data:`Ask`."""
    kind = rng.choice(tuple(PLACES))
    thing = rng.choice(own_things(kind, part))
    text = f"Where would you look for {_named(thing, kind)}?"
    return choice(text, PLACES[kind], PLACES.values(), rng, never=ALSO_FOUND.get(kind, ()))


KNOWLEDGE: dict[str, Ask] = {
    **{f"kind@{domain}": partial(kind_of, domain) for domain in DOMAINS},
    **{f"odd-one-out@{domain}": partial(odd_one_out, domain) for domain in DOMAINS},
    **{f"same-kind@{domain}": partial(same_kind, domain) for domain in DOMAINS},
    "use@purposes": purpose,
    "use@places": place,
}


def in_common(part: str, rng: random.Random) -> Question:
    """Ask of which kind three things are. See :data:`Ask`."""
    kind = rng.choice((*NATURE, *MADE))
    three = _some(kind, part, rng, 3)
    text = f"What are all of these: {three[0]}, {three[1]} and {three[2]}?"
    return choice(text, kind, (*NATURE, *MADE), rng)


def _some(kind: str, part: str, rng: random.Random, number: int) -> list[str]:
    return rng.sample(own_things(kind, part), number)


def _named(thing: str, kind: str) -> str:
    return thing if kind == "sport" else article(thing)


def _is(thing: str) -> str:
    return "are" if article(thing) == thing else "is"
