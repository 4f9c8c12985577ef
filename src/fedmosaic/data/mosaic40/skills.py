"""Skills about icons and edits. A task is one skill in one visual domain, ``skill@domain``.

Each skill makes one question from the pictures of one part; ``scene_skills`` holds further ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from fedmosaic.data.mosaic40.bank import Picture, Pool
from fedmosaic.data.mosaic40.categories import CATEGORIES, DISTINCT_CATEGORIES, disjoint_categories
from fedmosaic.data.mosaic40.questions import (
    ALSO_TRUE,
    ORDINALS,
    PLACES,
    USES,
    Question,
    QuestionAnswer,
    multiple_choice,
    with_article,
    yes_no,
)
from fedmosaic.data.mosaic40.scenes import EDITS

RELATION, REASONING, VQA = "relation", "reasoning", "vqa"
FAMILIES = (RELATION, REASONING, VQA)

QuestionMaker = Callable[[Pool, str, random.Random], Question]
"""Makes one question from the pictures of a pool that belong to a visual domain, with a random generator."""


@dataclass(frozen=True, slots=True)
class Skill:
    """One kind of question.

    Attributes:
        name: the part of a task's name before the ``@``.
        family: ``relation``, ``reasoning`` or ``vqa``.
        kind: the kind of pictures it needs (see :class:`~fedmosaic.data.mosaic40.bank.Picture`).
        make: makes one question, see :data:`QuestionMaker`.
    """

    name: str
    family: str
    kind: str
    make: QuestionMaker


SKILLS: dict[str, Skill] = {}


def skill(name: str, family: str, kind: str) -> Callable[[QuestionMaker], QuestionMaker]:
    """Return a decorator that registers a function as a skill.

    Args:
        name: the part of a task's name before the ``@``.
        family: ``relation``, ``reasoning`` or ``vqa``.
        kind: the kind of pictures that the function needs.
    """

    def register(make: QuestionMaker) -> QuestionMaker:
        SKILLS[name] = Skill(name, family, kind, make)
        return make

    return register


def _categories(
    pool: Pool, domain: str, rng: random.Random, number: int, *, least: int = 1, among: Collection[str] = CATEGORIES
) -> list[str]:
    """Return ``number`` categories, no two near each other; the first has at least ``least`` icons in the domain."""
    present = pool.categories(domain, among=among)
    while True:
        chosen = [rng.choice(pool.categories(domain, least=least, among=among))]
        while len(chosen) < number:
            left = [kind for kind in present if all(kind in disjoint_categories(other) for other in chosen)]
            if not left:
                break
            chosen.append(rng.choice(left))
        if len(chosen) == number:
            return chosen


def _several(pool: Pool, category: str, domain: str, rng: random.Random, number: int) -> list[Picture]:
    chosen: list[Picture] = []
    for _ in range(number):
        chosen.append(pool.icon(category, domain, rng, apart_from=chosen))
    return chosen


@skill("category", VQA, "icon")
def category(pool: Pool, domain: str, rng: random.Random) -> Question:
    """What kind of thing does the image show?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    (kind,) = _categories(pool, domain, rng, 1)
    qa = multiple_choice("what kind of thing is this ?", kind, disjoint_categories(kind), rng)
    return Question((pool.icon(kind, domain, rng),), qa)


@skill("which-image", VQA, "icon")
def which_image(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Which of four images shows a thing of the named kind?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    kinds = _categories(pool, domain, rng, 4, among=DISTINCT_CATEGORIES)
    at = rng.randrange(4)
    images = tuple(pool.icon(kind, domain, rng) for kind in kinds)
    return Question(
        images,
        QuestionAnswer(f"which image shows {with_article(kinds[at])} ?", ORDINALS[at], ORDINALS[:4], listed=False),
    )


@skill("describe", VQA, "icon")
def describe(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Open: the main colour and the kind of a thing, e.g. ``red fruit``.

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.balanced("icon", domain, "colour", rng)
    answer = f"{picture['colour']} {picture['category']}"
    return Question((picture,), QuestionAnswer("name the color and the kind of this thing .", answer))


@skill("use", REASONING, "icon")
def use(pool: Pool, domain: str, rng: random.Random) -> Question:
    """What do people do with the thing?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    return _knowledge(pool, domain, rng, USES, "what do people do with it ?")


@skill("place", REASONING, "icon")
def place(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Where is the thing found?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    return _knowledge(pool, domain, rng, PLACES, "where is it found ?")


def _knowledge(pool: Pool, domain: str, rng: random.Random, table: dict[str, str], text: str) -> Question:
    present = set(pool.categories(domain))
    answer = rng.choice(sorted({value for kind, value in table.items() if kind in present}))
    kind = rng.choice(sorted(k for k, value in table.items() if value == answer and k in present))
    also_true = ALSO_TRUE.get(kind, ())
    options = sorted(value for value in set(table.values()) if value not in also_true)
    return Question((pool.icon(kind, domain, rng),), multiple_choice(text, answer, options, rng))


@skill("same-category", RELATION, "icon")
def same_category(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Are two different things of the same kind?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    kind, other = _categories(pool, domain, rng, 2, least=2, among=DISTINCT_CATEGORIES)
    same = rng.random() < 0.5
    first = pool.icon(kind, domain, rng)
    second = pool.icon(kind if same else other, domain, rng, apart_from=[first])
    return Question((first, second), yes_no("are both things of the same kind ?", same))


@skill("same-thing", RELATION, "icon")
def same_thing(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Do two drawings in different domains show the same thing?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    kind, other = _categories(pool, domain, rng, 2, least=2)
    second = pool.icon(kind, domain, rng)
    same = rng.random() < 0.5
    views = [v for v in pool.views(second["code"]) if v.domain == "openmoji"]
    if same and views:
        first = views[0]
    else:
        same = False
        first = pool.icon(other, "openmoji", rng)
    return Question((first, second), yes_no("do both images show the same thing ?", same))


@skill("odd-one-out", REASONING, "icon")
def odd_one_out(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Three things of one kind and one of another: which is the other?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    kind, other = _categories(pool, domain, rng, 2, least=3, among=DISTINCT_CATEGORIES)
    images = _several(pool, kind, domain, rng, 3)
    at = rng.randrange(4)
    images.insert(at, pool.icon(other, domain, rng))
    return Question(
        tuple(images), QuestionAnswer("which image is the odd one out ?", ORDINALS[at], ORDINALS[:4], listed=False)
    )


@skill("bongard", REASONING, "icon")
def bongard(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Three things share a kind: does the fourth follow this rule?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    kind, other = _categories(pool, domain, rng, 2, least=4, among=DISTINCT_CATEGORIES)
    same = rng.random() < 0.5
    images = _several(pool, kind, domain, rng, 3)
    images.append(pool.icon(kind if same else other, domain, rng, apart_from=images))
    return Question(tuple(images), yes_no("does the last image follow the rule of the first three ?", same))


@skill("common-concept", REASONING, "icon")
def common_concept(pool: Pool, domain: str, rng: random.Random) -> Question:
    """What do three images have in common?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    (kind,) = _categories(pool, domain, rng, 1, least=3)
    qa = multiple_choice("what do all images have in common ?", kind, disjoint_categories(kind), rng)
    return Question(tuple(_several(pool, kind, domain, rng, 3)), qa)


@skill("pattern", REASONING, "icon")
def pattern(pool: Pool, domain: str, rng: random.Random) -> Question:
    """The kinds of four images repeat: which kind comes next?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    one, two, three = _categories(pool, domain, rng, 3, among=DISTINCT_CATEGORIES)
    sequence, following = rng.choice(
        (((one, two, one, two), one), ((one, two, three, one), two), ((one, two, two, one), two))
    )
    images = tuple(pool.icon(kind, domain, rng) for kind in sequence)
    shown = sorted(set(sequence))
    others = [
        kind for kind in disjoint_categories(shown[0]) if all(kind in disjoint_categories(seen) for seen in shown)
    ]
    options = [*shown, *rng.sample(others, 4 - len(shown))]
    rng.shuffle(options)
    return Question(images, QuestionAnswer("which kind comes next ?", following, tuple(options)))


@skill("missing", REASONING, "icon")
def missing(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Which of four kinds do three images not show?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    kinds = _categories(pool, domain, rng, 4, among=DISTINCT_CATEGORIES)
    images = tuple(pool.icon(kind, domain, rng) for kind in kinds[:3])
    options = rng.sample(kinds, 4)
    return Question(images, QuestionAnswer("which of these kinds is not shown ?", kinds[3], tuple(options)))


@skill("edit-type", RELATION, "edit")
def edit_type(pool: Pool, domain: str, rng: random.Random) -> Question:
    """How was an image changed?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    edited = _edit(pool, domain, rng)
    qa = QuestionAnswer("how was the second image changed ?", edited["edit"], EDITS)
    return Question((pool[edited["base"]], edited), qa)


@skill("which-differs", RELATION, "edit")
def which_differs(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Two images are equal and one is changed: which?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    edited = _edit(pool, domain, rng)
    images = [pool[edited["base"]]] * 2
    at = rng.randrange(3)
    images.insert(at, edited)
    return Question(
        tuple(images), QuestionAnswer("which image was changed ?", ORDINALS[at], ORDINALS[:3], listed=False)
    )


@skill("analogy", REASONING, "edit")
def analogy(pool: Pool, domain: str, rng: random.Random) -> Question:
    """A becomes A'; what does B become in the same way, e.g. ``gray bird``?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    shown = _edit(pool, domain, rng)
    kinds = sorted({picture["category"] for picture in pool.all("base", domain)})
    third = rng.choice([p for p in pool.all("base", domain) if p["category"] != shown["category"]])
    edits = (shown["edit"], rng.choice([edit for edit in EDITS if edit != shown["edit"]]))
    things = (third["category"], rng.choice([kind for kind in kinds if kind in disjoint_categories(third["category"])]))
    options = [f"{edit} {thing}" for edit in edits for thing in things]
    text = "the first became the second . what does the third become ?"
    return Question(
        (pool[shown["base"]], shown, third), QuestionAnswer(text, options[0], tuple(rng.sample(options, 4)))
    )


def _edit(pool: Pool, domain: str, rng: random.Random) -> Picture:
    """Return an edited picture; each kind of edit that the domain has is equally likely."""
    return pool.balanced("edit", domain, "edit", rng)
