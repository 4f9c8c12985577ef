"""Comparison drills: short dialogues that need two images, or two parts of one, to be compared; for pretraining.

In the full mixture few questions need a comparison, and a small model does not learn to match. Trained on such
questions alone, one at a time about two to four images, it does so within a few hundred steps: first to find the same
picture in another domain, then the same category, a named category, whether two things are the same, and the position
of a named thing in an image.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40.bank import Picture, Pool
from fedmosaic.data.mosaic40.categories import DISTINCT_CATEGORIES
from fedmosaic.data.mosaic40.public import HasPool, random_domain, same, which_image
from fedmosaic.data.mosaic40.public_scenes import pairs
from fedmosaic.data.mosaic40.questions import ORDINALS, QuestionAnswer
from fedmosaic.seeding import derive

_SAME_PICTURE = 0.3  # share of matches that repeat the same picture, the easiest case
_MIXED_DOMAINS = 0.3


def drills(bank: HasPool, seed: int, *, matching: bool = False) -> Iterator[Dialogue]:
    """Yield drills without end; the same for the same bank and seed.

    Args:
        bank: the public pictures.
        seed: of the drills.
        matching: only :func:`same_thing`, the basis of the other comparisons.
    """
    rng = random.Random(derive(seed, "drills", matching))
    makers, weights = zip(*_DRILLS, strict=True)
    while True:
        maker = same_thing if matching else rng.choices(makers, weights)[0]
        yield maker(bank.pool, rng)


def same_thing(pool: Pool, rng: random.Random) -> Dialogue:
    """Return the question which of two or three other images shows the first one's thing, mostly in another domain.

    Args:
        pool: the pictures.
        rng: draws the images.
    """
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
    """Return the question which of two or three other images shows a thing of the same category as the first.

    Args:
        pool: the pictures.
        rng: draws the images.
    """
    domain, total = random_domain(pool, rng), rng.choice((2, 3, 3))
    kinds = rng.sample(pool.categories(domain, least=3, among=DISTINCT_CATEGORIES), total)
    at, mixed = rng.randrange(total), rng.random() < _MIXED_DOMAINS
    images = [pool.icon(kinds[at], domain, rng)]
    for kind in kinds:
        image_domain = random_domain(pool, rng) if mixed else domain
        known = image_domain if kind in pool.categories(image_domain, least=2) else "openmoji"
        images.append(pool.icon(kind, known, rng, apart_from=images))
    return _match("which other image is of the same kind ?", images, at)


def named_kind(pool: Pool, rng: random.Random) -> Dialogue:
    """Return the questions which image shows each of the categories that are shown.

    Args:
        pool: the pictures.
        rng: draws the images and the order.
    """
    domain, total = random_domain(pool, rng), rng.choice((2, 3, 4))
    kinds = rng.sample(pool.categories(domain, among=DISTINCT_CATEGORIES), total)
    images = [pool.icon(kind, domain, rng) for kind in kinds]
    return _dialogue(images, [which_image(kinds, at, rng) for at in rng.sample(range(total), total)])


def both_same(pool: Pool, rng: random.Random) -> Dialogue:
    """Return the question whether two images show the same thing.

    Args:
        pool: the pictures.
        rng: draws the images.
    """
    question_set = same(pool, rng)
    return _dialogue(question_set.images, [next(qa for qa in question_set.questions if "same thing" in qa.text)])


def places(pool: Pool, rng: random.Random) -> Dialogue:
    """Return questions about the positions of two things in an image.

    Args:
        pool: the pictures.
        rng: draws the image and the order.
    """
    question_set = pairs(pool, rng)
    asked = [qa for qa in question_set.questions if qa.text.startswith(("where is", "is the"))]
    return _dialogue(question_set.images, rng.sample(asked, len(asked)))


def _match(text: str, images: list[Picture], at: int) -> Dialogue:
    others = ORDINALS[1 : len(images)]
    return _dialogue(images, [QuestionAnswer(text, others[at], others, listed=False)])


def _dialogue(images: list[Picture] | tuple[Picture, ...], questions: list[QuestionAnswer]) -> Dialogue:
    first, *rest = questions
    turns = [(first.prompt(len(images)), first.answer), *((qa.follow_up(), qa.answer) for qa in rest)]
    return Dialogue(tuple(picture.key for picture in images), tuple(turns))


_DRILLS: tuple[tuple[Callable[[Pool, random.Random], Dialogue], float], ...] = (
    (same_thing, 3.0),
    (same_kind, 3.0),
    (named_kind, 4.0),
    (both_same, 2.0),
    (places, 4.0),
)
