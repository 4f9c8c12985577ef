"""Skills about composed scenes, digits, flags and charts; importing this module registers them in ``skills.SKILLS``."""

from __future__ import annotations

import random

from fedmosaic.data.mosaic40.bank import Pool
from fedmosaic.data.mosaic40.questions import NUMBERS, ORDINALS, Question, QuestionAnswer, yes_no
from fedmosaic.data.mosaic40.scenes import CHANGES, FLAG_COLOURS
from fedmosaic.data.mosaic40.skills import REASONING, RELATION, VQA, skill

SIDES = {"left": "left", "right": "right", "above": "top", "below": "bottom"}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
PHRASES = {"left": "left of", "right": "right of", "above": "above", "below": "below"}


@skill("count", VQA, "count")
def count(pool: Pool, domain: str, rng: random.Random) -> Question:
    """How many things are there?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.balanced("count", domain, "number", rng)
    return Question((picture,), QuestionAnswer("how many things are there ?", str(picture["number"]), NUMBERS))


@skill("count-thing", VQA, "count")
def count_thing(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Open: how many things of which kind, e.g. ``3 bird``.

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.balanced("count", domain, "number", rng)
    qa = QuestionAnswer("name the number and the kind of the things .", f"{picture['number']} {picture['category']}")
    return Question((picture,), qa)


@skill("count-compare", RELATION, "count")
def count_compare(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Which of two images has more things?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    first = pool.balanced("count", domain, "number", rng)
    second = rng.choice([p for p in pool.all("count", domain) if p["number"] != first["number"]])
    answer = ORDINALS[int(second["number"] > first["number"])]
    return Question(
        (first, second), QuestionAnswer("which image has more things ?", answer, ORDINALS[:2], listed=False)
    )


@skill("spatial", VQA, "pair")
def spatial(pool: Pool, domain: str, rng: random.Random) -> Question:
    """On which side is the named thing?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.balanced("pair", domain, "relation", rng)
    thing, relation = picture["first"], picture["relation"]
    if rng.random() < 0.5:
        thing, relation = picture["second"], OPPOSITE[relation]
    qa = QuestionAnswer(f"where is the {thing} ?", SIDES[relation], tuple(SIDES.values()))
    return Question((picture,), qa)


@skill("arrangement", VQA, "pair")
def arrangement(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Open: two things and their relation, e.g. ``bird above boat``; the first in reading order comes first.

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.balanced("pair", domain, "relation", rng)
    names, relation = (picture["first"], picture["second"]), picture["relation"]
    if relation in {"right", "below"}:
        names, relation = (names[1], names[0]), OPPOSITE[relation]
    qa = QuestionAnswer("describe how the things are arranged .", f"{names[0]} {relation} {names[1]}")
    return Question((picture,), qa)


@skill("same-arrangement", RELATION, "pair")
def same_arrangement(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Are the things beside each other in both images, or above each other in both?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    first = pool.balanced("pair", domain, "relation", rng)
    flat = ("left", "right")
    same = rng.random() < 0.5
    choice = [
        p
        for p in pool.all("pair", domain)
        if ((p["relation"] in flat) == (first["relation"] in flat)) == same and p.key != first.key
    ]
    return Question((first, rng.choice(choice)), yes_no("are the things arranged the same way in both images ?", same))


@skill("change-type", RELATION, "grid")
def change_type(pool: Pool, domain: str, rng: random.Random) -> Question:
    """What happened to the things between two images?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    after = pool.balanced("grid", domain, "change", rng)
    qa = QuestionAnswer("what happened to the things in the second image ?", after["change"], CHANGES)
    return Question((pool[after["base"]], after), qa)


@skill("digit-compare", RELATION, "digit")
def digit_compare(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Which of two digits is larger?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    first = pool.balanced("digit", domain, "digit", rng)
    second = rng.choice([p for p in pool.all("digit", domain) if p["digit"] != first["digit"]])
    answer = ORDINALS[int(second["digit"] > first["digit"])]
    return Question((first, second), QuestionAnswer("which digit is larger ?", answer, ORDINALS[:2], listed=False))


@skill("digit-parity", REASONING, "digit")
def digit_parity(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Is the digit even or odd?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.balanced("digit", domain, "digit", rng)
    qa = QuestionAnswer(
        "is this number even or odd ?", ("even", "odd")[picture["digit"] % 2], ("even", "odd"), listed=False
    )
    return Question((picture,), qa)


@skill("lowest-bar", VQA, "bars")
def lowest_bar(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Which bar is the lowest (shortest)?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.one("bars", domain, rng)
    return Question(
        (picture,), QuestionAnswer("which bar is the lowest ?", picture["lowest"], tuple(sorted(picture["colours"])))
    )


@skill("highest-bar", VQA, "bars")
def highest_bar(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Which bar is the highest (longest)?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.one("bars", domain, rng)
    return Question(
        (picture,), QuestionAnswer("which bar is the highest ?", picture["highest"], tuple(sorted(picture["colours"])))
    )


@skill("bar-count", VQA, "bars")
def bar_count(pool: Pool, domain: str, rng: random.Random) -> Question:
    """How many bars are there?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.one("bars", domain, rng)
    return Question((picture,), QuestionAnswer("how many bars are there ?", str(len(picture["colours"])), NUMBERS[2:]))


@skill("smallest-slice", VQA, "pie")
def smallest_slice(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Which slice of a pie is the smallest?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.one("pie", domain, rng)
    options = tuple(sorted(picture["colours"]))
    return Question((picture,), QuestionAnswer("which slice is the smallest ?", picture["lowest"], options))


@skill("trend", VQA, "line")
def trend(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Does the line go up or down?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.balanced("line", domain, "trend", rng)
    return Question(
        (picture,), QuestionAnswer("does the line go up or down ?", picture["trend"], ("up", "down"), listed=False)
    )


@skill("peak", VQA, "hill")
def peak(pool: Pool, domain: str, rng: random.Random) -> Question:
    """On which side is the line's highest point?

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    picture = pool.balanced("hill", domain, "peak", rng)
    text = "is the peak on the left or on the right ?"
    return Question((picture,), QuestionAnswer(text, picture["peak"], ("left", "right"), listed=False))


@skill("flag-colour", VQA, "flag")
def flag_colour(pool: Pool, domain: str, rng: random.Random) -> Question:
    """Which of three colours has the flag? Black is not asked for: OpenMoji's outlines are black.

    See :data:`~fedmosaic.data.mosaic40.skills.QuestionMaker`.
    """
    colours = [colour for colour in FLAG_COLOURS if colour != "black"]
    wanted = rng.choice(colours)
    flags = [
        picture
        for picture in pool.all("flag", domain)
        if picture["clear"] and wanted in picture["colours"] and len(set(colours) - set(picture["colours"])) >= 2
    ]
    flag = rng.choice(flags)
    absent = [colour for colour in colours if colour not in flag["colours"]]
    options = rng.sample([wanted, *rng.sample(absent, 2)], 3)
    text = f"which color is in the flag , {options[0]} , {options[1]} or {options[2]} ?"
    return Question((flag,), QuestionAnswer(text, wanted, tuple(options), listed=False))
