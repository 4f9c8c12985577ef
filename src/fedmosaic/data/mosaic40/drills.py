"""Drills: dialogues that ask one skill densely, for the part of pretraining in which models learn to compare images.

In the full mixture the few questions that need a comparison are drowned by those that do not, and small models never
learn them; a few hundred steps of nothing else are enough.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from fedmosaic.data.mosaic40.asking import marks
from fedmosaic.data.mosaic40.bank import Pool
from fedmosaic.data.mosaic40.public import MOST_TURNS, Dialogue, HasPool, is_it, look, match, same, which_image
from fedmosaic.data.mosaic40.public_scenes import Talk
from fedmosaic.seeding import derive


def drills(bank: HasPool, seed: int, *, which_only: bool = False) -> Iterator[Dialogue]:
    """Yield drills without end; the same for the same bank and seed.

    Args:
        bank: the public pictures.
        seed: of the drills.
        which_only: only "which image shows ...", the hardest to come by.
    """
    rng = random.Random(derive(seed, "drills", which_only))
    while True:
        talk = _which(bank.pool, rng) if which_only else _drill(bank.pool, rng)
        asks = talk.asks[:MOST_TURNS]
        texts = [ask.follow_up() for ask in asks]
        texts[0] = f"{marks(len(talk.images))} {texts[0]}"
        keys = tuple(picture.key for picture in talk.images)
        yield Dialogue(keys, tuple((text, ask.answer) for text, ask in zip(texts, asks, strict=True)))


def _drill(pool: Pool, rng: random.Random) -> Talk:
    """Is it (one icon), which image (several), which other shows the same, do both show the same."""
    (drill,) = rng.choices((_is_it, _which, match, same), (25, 40, 20, 15))
    return drill(pool, rng)


def _is_it(pool: Pool, rng: random.Random) -> Talk:
    domain = look(pool, rng)
    kind = rng.choice(pool.categories(domain))
    return Talk((pool.icon(kind, domain, rng),), [is_it([kind], rng) for _ in range(MOST_TURNS)])


def _which(pool: Pool, rng: random.Random) -> Talk:
    domain, total = look(pool, rng), rng.choice((2, 3, 4))
    kinds = rng.sample(pool.categories(domain), total)
    images = tuple(pool.icon(kind, domain, rng) for kind in kinds)
    return Talk(images, [which_image(kinds, at, rng) for at in rng.sample(range(total), total)])
