"""Drills: short dialogues that need one image, or one part of it, compared with another, for a part of pretraining.

In the full mixture the few questions that need a comparison are drowned by those that do not, and a small model never
learns to match. Given little else, one question about two to four images at a time, it does so within a few hundred
steps: first to find the same picture in another look, then the same kind, the named kind, whether two are the same, and
where in an image a named thing is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40.asking import ORDINALS, Ask
from fedmosaic.data.mosaic40.bank import Picture, Pool
from fedmosaic.data.mosaic40.kinds import PLAIN
from fedmosaic.data.mosaic40.public import HasPool, look, same, which_image
from fedmosaic.data.mosaic40.public_scenes import pairs
from fedmosaic.seeding import derive

_SAME_PICTURE = 0.3  # of the matches show the very same picture again: where matching begins
_MIXED_LOOKS = 0.3


def drills(bank: HasPool, seed: int, *, matching: bool = False) -> Iterator[Dialogue]:
    """Yield drills without end; the same for the same bank and seed.

    Args:
        bank: the public pictures.
        seed: of the drills.
        matching: only "which other image shows the same thing", from which the other comparisons follow.
    """
    rng = random.Random(derive(seed, "drills", matching))
    makers, weights = zip(*_DRILLS, strict=True)
    while True:
        maker = same_thing if matching else rng.choices(makers, weights)[0]
        yield maker(bank.pool, rng)


def same_thing(pool: Pool, rng: random.Random) -> Dialogue:
    """Which of two or three other images shows the same thing as the first, mostly in another look?"""
    total = rng.choice((2, 3))
    first, *others = (pool.icon(kind, "openmoji", rng) for kind in rng.sample(pool.categories("openmoji"), total))
    views = pool.views(first["code"])
    shown = rng.choice(views)
    again = shown if rng.random() < _SAME_PICTURE else rng.choice([view for view in views if view is not shown])
    candidates = [rng.choice(pool.views(other["code"])) for other in others]
    at = rng.randrange(total)
    candidates.insert(at, again)
    return _match("which other image shows the same thing as the first ?", [shown, *candidates], at)


def same_kind(pool: Pool, rng: random.Random) -> Dialogue:
    """Which of two or three other images is of the same kind as the first?"""
    domain, total = look(pool, rng), rng.choice((2, 3, 3))
    kinds = rng.sample(pool.categories(domain, least=3, among=PLAIN), total)
    at, mixed = rng.randrange(total), rng.random() < _MIXED_LOOKS
    images = [pool.icon(kinds[at], domain, rng)]
    for kind in kinds:
        style = look(pool, rng) if mixed else domain
        known = style if kind in pool.categories(style, least=2) else "openmoji"
        images.append(pool.icon(kind, known, rng, apart_from=images))
    return _match("which other image is of the same kind ?", images, at)


def named_kind(pool: Pool, rng: random.Random) -> Dialogue:
    """Which image shows each of the kinds that are there, one after the other?"""
    domain, total = look(pool, rng), rng.choice((2, 3, 4))
    kinds = rng.sample(pool.categories(domain, among=PLAIN), total)
    images = [pool.icon(kind, domain, rng) for kind in kinds]
    return _dialogue(images, [which_image(kinds, at, rng) for at in rng.sample(range(total), total)])


def both_same(pool: Pool, rng: random.Random) -> Dialogue:
    """Do two images show the same thing?"""
    talk = same(pool, rng)
    return _dialogue(talk.images, [next(ask for ask in talk.asks if "same thing" in ask.text)])


def places(pool: Pool, rng: random.Random) -> Dialogue:
    """Where are the two things of an image?"""
    talk = pairs(pool, rng)
    asked = [ask for ask in talk.asks if ask.text.startswith(("where is", "is the"))]
    return _dialogue(talk.images, rng.sample(asked, len(asked)))


def _match(text: str, images: list[Picture], at: int) -> Dialogue:
    others = ORDINALS[1 : len(images)]
    return _dialogue(images, [Ask(text, others[at], others, listed=False)])


def _dialogue(images: list[Picture] | tuple[Picture, ...], asks: list[Ask]) -> Dialogue:
    first, *rest = asks
    turns = [(first.prompt(len(images)), first.answer), *((ask.follow_up(), ask.answer) for ask in rest)]
    return Dialogue(tuple(picture.key for picture in images), tuple(turns))


_DRILLS: tuple[tuple[Callable[[Pool, random.Random], Dialogue], float], ...] = (
    (same_thing, 3.0),
    (same_kind, 3.0),
    (named_kind, 4.0),
    (both_same, 2.0),
    (places, 4.0),
)
