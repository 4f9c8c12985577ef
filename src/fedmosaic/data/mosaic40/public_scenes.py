"""Dialogues of the public mixture about scenes, edits, charts, digits and flags."""

from __future__ import annotations

import random
from dataclasses import dataclass

from fedmosaic.data.mosaic40.asking import NUMBERS, ORDINALS, Ask, a, pick, yes_no
from fedmosaic.data.mosaic40.bank import Picture, Pool
from fedmosaic.data.mosaic40.kinds import CATEGORIES
from fedmosaic.data.mosaic40.scene_skills import OPPOSITE, SIDES, WORDED
from fedmosaic.data.mosaic40.scenes import CELLS, EDITS

_DIGITS = tuple("0123456789")


@dataclass(frozen=True, slots=True)
class Talk:
    """Images and what may be asked about them."""

    images: tuple[Picture, ...]
    asks: list[Ask]


def _of(at: int, total: int, *, word: str = "image") -> str:
    """Return `` in the second image`` where there are several images, else nothing."""
    return "" if total == 1 else f" in the {ORDINALS[at]} {word}"


def _some(pool: Pool, kind: str, rng: random.Random, number: int) -> list[Picture]:
    """Return pictures of one kind from one domain, large domains more often."""
    domains = pool.domains(kind)
    (domain,) = rng.choices(domains, [len(pool.all(kind, d)) for d in domains])
    return rng.sample(pool.all(kind, domain), number)


def counts(pool: Pool, rng: random.Random) -> Talk:
    """Counts in one or two images."""
    total = rng.choice((1, 1, 2))
    images = _some(pool, "count", rng, total)
    asks = []
    for at, picture in enumerate(images):
        number, kind, where = picture["number"], picture["category"], _of(at, total)
        asks.append(Ask(f"how many things are there{where} ?", str(number), NUMBERS))
        asks.append(pick(f"what kind of thing is there{where} ?", kind, CATEGORIES, rng))
        guess = number if rng.random() < 0.5 else rng.choice([n for n in range(1, 6) if n != number])
        asks.append(yes_no(f"are there {guess} things{where} ?", guess == number))
        than = rng.randint(1, 4)
        asks.append(yes_no(f"are there more than {than} things{where} ?", number > than))
    said = [f"{p['number']} {p['category']}" for p in images]
    asks.append(_caption(said))
    return Talk(tuple(images), asks)


def pairs(pool: Pool, rng: random.Random) -> Talk:
    """Two things and their places, asked in many ways."""
    (picture,) = _some(pool, "pair", rng, 1)
    one, two, relation = picture["first"], picture["second"], picture["relation"]
    back = OPPOSITE[relation]
    told = rng.choice(((one, relation, two), (two, back, one)))
    asks = [
        Ask(f"where is the {one} ?", SIDES[relation], tuple(SIDES.values())),
        Ask(f"where is the {two} ?", SIDES[back], tuple(SIDES.values())),
        Ask(f"what is {WORDED[relation]} the {two} ?", one),
        Ask(f"what is {WORDED[back]} the {one} ?", two),
        Ask(f"what is on the {SIDES[relation]} ?", one, (one, two)),
        Ask(f"what is on the {SIDES[back]} ?", two, (one, two)),
        _placed(one, two, relation, rng),
        _placed(two, one, back, rng),
        yes_no(f"is there {a(one)} ?", answer=True),
        yes_no(f"is there {a(_other((one, two), rng))} ?", answer=False),
        Ask("describe the image .", f"{told[0]} {WORDED[told[1]]} {told[2]}"),
        Ask("describe the image .", f"{told[0]} {WORDED[told[1]]} {told[2]}"),
    ]
    return Talk((picture,), asks)


def _placed(one: str, two: str, relation: str, rng: random.Random) -> Ask:
    right = rng.random() < 0.5
    return yes_no(f"is the {one} {WORDED[relation if right else OPPOSITE[relation]]} the {two} ?", right)


def _other(kinds: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice([c for c in CATEGORIES if c not in kinds])


def grids(pool: Pool, rng: random.Random) -> Talk:
    """Things in the quarters of one image, or of two that differ."""
    (picture,) = _some(pool, "grid", rng, 1)
    images = [pool[picture["base"]], picture] if "base" in picture.facts and rng.random() < 0.5 else [picture]
    asks = []
    for at, image in enumerate(images):
        where = _of(at, len(images))
        shown = [(cell, kind) for cell, kind in zip(CELLS, image["cells"], strict=True) if kind]
        asks.append(Ask(f"how many things are there{where} ?", str(len(shown)), NUMBERS))
        for cell, kind in rng.sample(shown, min(2, len(shown))):
            asks.append(Ask(f"what is at the {cell}{where} ?", kind))
            asks.append(Ask(f"where is the {kind}{where} ?", cell))
        asks.append(Ask(f"what is shown{where} ?", " ".join(f"{cell} {kind}" for cell, kind in shown)))
    return Talk(tuple(images), asks)


def edits(pool: Pool, rng: random.Random) -> Talk:
    """An image and its edited version: how it was changed, and that it still shows the same thing."""
    (edited,) = _some(pool, "edit", rng, 1)
    images = (pool[edited["base"]], edited)
    kind, edit = edited["category"], edited["edit"]
    guess = edit if rng.random() < 0.5 else rng.choice([e for e in EDITS if e != edit])
    asks = [
        Ask("how was the second image changed ?", edit, EDITS),
        Ask("what is different in the second image ?", edit),
        yes_no(f"is the second image {guess} ?", guess == edit),
        pick("what kind of thing is the first image ?", kind, CATEGORIES, rng),
        Ask("describe the images .", f"first {kind} second {edit} {kind}"),
    ]
    if rng.random() < 0.2:
        asks = [
            Ask("what is different in the second image ?", "equal"),
            yes_no("was the second image changed ?", False),
        ]
        return Talk((images[0], images[0]), asks)
    asks.append(yes_no("was the second image changed ?", answer=True))
    return Talk(images, asks)


def bars(pool: Pool, rng: random.Random) -> Talk:
    """Bar charts: the highest bar, sizes against each other; captions tell the order of all bars."""
    (picture,) = _some(pool, "bars", rng, 1)
    by_size = _by_size(picture)
    one, two = rng.sample(by_size, 2)
    higher = by_size.index(one) < by_size.index(two)
    missing = rng.choice([c for c in ("red", "green", "blue", "orange", "purple") if c not in by_size] or ["brown"])
    options = tuple(sorted(by_size))
    asks = [
        Ask("which bar is the highest ?", by_size[0], options),
        Ask("which bar is the highest ?", by_size[0], options),
        yes_no(f"is the {one} bar higher than the {two} bar ?", higher),
        Ask("name the colors .", " ".join(picture["colours"])),
        Ask("describe the chart .", f"{len(options)} bars from highest to lowest {' '.join(by_size)}"),
        yes_no(f"is there a {missing} bar ?", answer=False),
        yes_no(f"is there {a(one)} bar ?", answer=True),
    ]
    return Talk((picture,), asks)


def pies(pool: Pool, rng: random.Random) -> Talk:
    """Pie charts: the largest slice; captions tell the order of all slices."""
    (picture,) = _some(pool, "pie", rng, 1)
    by_size = _by_size(picture)
    options = tuple(sorted(by_size))
    asks = [
        Ask("which slice is the largest ?", by_size[0], options),
        Ask("name the colors .", " ".join(options)),
        Ask("describe the chart .", f"{len(options)} slices from largest to smallest {' '.join(by_size)}"),
    ]
    return Talk((picture,), asks)


def _by_size(picture: Picture) -> list[str]:
    ordered = sorted(zip(picture["sizes"], picture["colours"], strict=True), reverse=True)
    return [colour for _, colour in ordered]


def lines(pool: Pool, rng: random.Random) -> Talk:
    """Line charts: only the colour and that it is a line; how lines run is left to the clients."""
    (picture,) = _some(pool, "line", rng, 1)
    colour = picture["colour"]
    asks = [Ask("what color is the line ?", colour), Ask("describe the chart .", f"{colour} line")]
    return Talk((picture,), asks)


def digits(pool: Pool, rng: random.Random) -> Talk:
    """One to three handwritten digits."""
    total = rng.choice((1, 1, 2, 3))
    images = _some(pool, "digit", rng, total)
    asks = []
    for at, picture in enumerate(images):
        digit = str(picture["digit"])
        text = "which digit is this ?" if total == 1 else f"which digit is the {ORDINALS[at]} image ?"
        asks += [Ask(text, digit, _DIGITS), Ask(text, digit)]
    asks.append(_caption([f"digit {p['digit']}" for p in images]))
    return Talk(tuple(images), asks)


def flags(pool: Pool, rng: random.Random) -> Talk:
    """Flags: their colours in a caption."""
    (picture,) = _some(pool, "flag", rng, 1)
    said = " ".join(["flag", *picture["colours"]])
    return Talk((picture,), [Ask("describe the image .", said), yes_no("is this a flag ?", answer=True)])


def _caption(said: list[str]) -> Ask:
    if len(said) == 1:
        return Ask("describe the image .", said[0])
    return Ask("describe the images .", " ".join(f"{o} {s}" for o, s in zip(ORDINALS, said, strict=False)))
