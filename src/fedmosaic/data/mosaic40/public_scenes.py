"""Question sets of the public mixture about scenes, edits, charts, digits and flags."""

from __future__ import annotations

import random
from dataclasses import dataclass

from fedmosaic.data.mosaic40.bank import Picture, Pool
from fedmosaic.data.mosaic40.categories import CATEGORIES
from fedmosaic.data.mosaic40.questions import NUMBERS, ORDINALS, QuestionAnswer, multiple_choice, with_article, yes_no
from fedmosaic.data.mosaic40.scene_skills import OPPOSITE, PHRASES, SIDES
from fedmosaic.data.mosaic40.scenes import CELLS, EDITS

_DIGITS = tuple("0123456789")


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Images and the questions that may be asked about them.

    Attributes:
        images: the pictures, in order.
        questions: the questions; one may be listed twice to make it more likely.
    """

    images: tuple[Picture, ...]
    questions: list[QuestionAnswer]


def _of(at: int, total: int, *, word: str = "image") -> str:
    """Return `` in the second image`` where there are several images, else nothing."""
    return "" if total == 1 else f" in the {ORDINALS[at]} {word}"


def _some(pool: Pool, kind: str, rng: random.Random, number: int) -> list[Picture]:
    """Return pictures of one kind from one domain, large domains more often."""
    domains = pool.domains(kind)
    (domain,) = rng.choices(domains, [len(pool.all(kind, d)) for d in domains])
    return rng.sample(pool.all(kind, domain), number)


def counts(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions about the number of things in one or two images.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    total = rng.choice((1, 1, 2))
    images = _some(pool, "count", rng, total)
    questions = []
    for at, picture in enumerate(images):
        number, kind, where = picture["number"], picture["category"], _of(at, total)
        questions.append(QuestionAnswer(f"how many things are there{where} ?", str(number), NUMBERS))
        questions.append(multiple_choice(f"what kind of thing is there{where} ?", kind, CATEGORIES, rng))
        guess = number if rng.random() < 0.5 else rng.choice([n for n in range(1, 6) if n != number])
        questions.append(yes_no(f"are there {guess} things{where} ?", guess == number))
        than = rng.randint(1, 4)
        questions.append(yes_no(f"are there more than {than} things{where} ?", number > than))
    captions = [f"{p['number']} {p['category']}" for p in images]
    questions.append(_caption(captions))
    return QuestionSet(tuple(images), questions)


def pairs(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions, in many forms, about two things and their positions.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    (picture,) = _some(pool, "pair", rng, 1)
    one, two, relation = picture["first"], picture["second"], picture["relation"]
    back = OPPOSITE[relation]
    told = rng.choice(((one, relation, two), (two, back, one)))
    questions = [
        QuestionAnswer(f"where is the {one} ?", SIDES[relation], tuple(SIDES.values())),
        QuestionAnswer(f"where is the {two} ?", SIDES[back], tuple(SIDES.values())),
        QuestionAnswer(f"what is {PHRASES[relation]} the {two} ?", one),
        QuestionAnswer(f"what is {PHRASES[back]} the {one} ?", two),
        QuestionAnswer(f"what is on the {SIDES[relation]} ?", one, (one, two)),
        QuestionAnswer(f"what is on the {SIDES[back]} ?", two, (one, two)),
        _placed(one, two, relation, rng),
        _placed(two, one, back, rng),
        yes_no(f"is there {with_article(one)} ?", answer=True),
        yes_no(f"is there {with_article(_other((one, two), rng))} ?", answer=False),
        QuestionAnswer("describe the image .", f"{told[0]} {PHRASES[told[1]]} {told[2]}"),
        QuestionAnswer("describe the image .", f"{told[0]} {PHRASES[told[1]]} {told[2]}"),
    ]
    return QuestionSet((picture,), questions)


def _placed(one: str, two: str, relation: str, rng: random.Random) -> QuestionAnswer:
    right = rng.random() < 0.5
    return yes_no(f"is the {one} {PHRASES[relation if right else OPPOSITE[relation]]} the {two} ?", right)


def _other(kinds: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice([c for c in CATEGORIES if c not in kinds])


def grids(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions about things in the quarters of one image, or of two that differ.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    (picture,) = _some(pool, "grid", rng, 1)
    images = [pool[picture["base"]], picture] if "base" in picture.facts and rng.random() < 0.5 else [picture]
    questions = []
    for at, image in enumerate(images):
        where = _of(at, len(images))
        shown = [(cell, kind) for cell, kind in zip(CELLS, image["cells"], strict=True) if kind]
        questions.append(QuestionAnswer(f"how many things are there{where} ?", str(len(shown)), NUMBERS))
        for cell, kind in rng.sample(shown, min(2, len(shown))):
            questions.append(QuestionAnswer(f"what is at the {cell}{where} ?", kind))
            questions.append(QuestionAnswer(f"where is the {kind}{where} ?", cell))
        questions.append(QuestionAnswer(f"what is shown{where} ?", " ".join(f"{cell} {kind}" for cell, kind in shown)))
    return QuestionSet(tuple(images), questions)


def edits(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions about an image and its edited version: how it was changed, and what both show.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    (edited,) = _some(pool, "edit", rng, 1)
    images = (pool[edited["base"]], edited)
    kind, edit = edited["category"], edited["edit"]
    guess = edit if rng.random() < 0.5 else rng.choice([e for e in EDITS if e != edit])
    questions = [
        QuestionAnswer("how was the second image changed ?", edit, EDITS),
        QuestionAnswer("what is different in the second image ?", edit),
        yes_no(f"is the second image {guess} ?", guess == edit),
        multiple_choice("what kind of thing is the first image ?", kind, CATEGORIES, rng),
        QuestionAnswer("describe the images .", f"first {kind} second {edit} {kind}"),
    ]
    if rng.random() < 0.2:
        questions = [
            QuestionAnswer("what is different in the second image ?", "equal"),
            yes_no("was the second image changed ?", False),
        ]
        return QuestionSet((images[0], images[0]), questions)
    questions.append(yes_no("was the second image changed ?", answer=True))
    return QuestionSet(images, questions)


def bars(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions about a bar chart: the highest bar, comparisons; captions list the bars by size.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    (picture,) = _some(pool, "bars", rng, 1)
    by_size = _by_size(picture)
    one, two = rng.sample(by_size, 2)
    higher = by_size.index(one) < by_size.index(two)
    missing = rng.choice([c for c in ("red", "green", "blue", "orange", "purple") if c not in by_size] or ["brown"])
    options = tuple(sorted(by_size))
    questions = [
        QuestionAnswer("which bar is the highest ?", by_size[0], options),
        QuestionAnswer("which bar is the highest ?", by_size[0], options),
        yes_no(f"is the {one} bar higher than the {two} bar ?", higher),
        QuestionAnswer("name the colors .", " ".join(picture["colours"])),
        QuestionAnswer("describe the chart .", f"{len(options)} bars from highest to lowest {' '.join(by_size)}"),
        yes_no(f"is there a {missing} bar ?", answer=False),
        yes_no(f"is there {with_article(one)} bar ?", answer=True),
    ]
    return QuestionSet((picture,), questions)


def pies(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions about a pie chart: the largest slice; captions list the slices by size.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    (picture,) = _some(pool, "pie", rng, 1)
    by_size = _by_size(picture)
    options = tuple(sorted(by_size))
    questions = [
        QuestionAnswer("which slice is the largest ?", by_size[0], options),
        QuestionAnswer("name the colors .", " ".join(options)),
        QuestionAnswer("describe the chart .", f"{len(options)} slices from largest to smallest {' '.join(by_size)}"),
    ]
    return QuestionSet((picture,), questions)


def _by_size(picture: Picture) -> list[str]:
    ordered = sorted(zip(picture["sizes"], picture["colours"], strict=True), reverse=True)
    return [colour for _, colour in ordered]


def lines(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions about a line chart: only its colour and type; its shape is left to the clients' tasks.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    (picture,) = _some(pool, "line", rng, 1)
    colour = picture["colour"]
    questions = [
        QuestionAnswer("what color is the line ?", colour),
        QuestionAnswer("describe the chart .", f"{colour} line"),
    ]
    return QuestionSet((picture,), questions)


def digits(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions about one to three handwritten digits.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    total = rng.choice((1, 1, 2, 3))
    images = _some(pool, "digit", rng, total)
    questions = []
    for at, picture in enumerate(images):
        digit = str(picture["digit"])
        text = "which digit is this ?" if total == 1 else f"which digit is the {ORDINALS[at]} image ?"
        questions += [QuestionAnswer(text, digit, _DIGITS), QuestionAnswer(text, digit)]
    questions.append(_caption([f"digit {p['digit']}" for p in images]))
    return QuestionSet(tuple(images), questions)


def flags(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions about a flag: its colours in a caption.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    (picture,) = _some(pool, "flag", rng, 1)
    captions = " ".join(["flag", *picture["colours"]])
    return QuestionSet(
        (picture,), [QuestionAnswer("describe the image .", captions), yes_no("is this a flag ?", answer=True)]
    )


def _caption(captions: list[str]) -> QuestionAnswer:
    if len(captions) == 1:
        return QuestionAnswer("describe the image .", captions[0])
    return QuestionAnswer(
        "describe the images .", " ".join(f"{o} {s}" for o, s in zip(ORDINALS, captions, strict=False))
    )
