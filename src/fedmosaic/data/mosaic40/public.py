"""The public mixture: dialogues about public pictures, for pretraining base models and for alignment.

Generic skills only (what, which, how many, where, how changed, matching, naming); the clients' tasks mostly ask
differently. A dialogue asks several things about the same images, and captions them: small models learn to bind words
to images from dense answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40 import public_scenes as scenes
from fedmosaic.data.mosaic40.asking import ORDINALS, Ask, Question, a, marks, pick, yes_no
from fedmosaic.data.mosaic40.bank import Picture, Pool
from fedmosaic.data.mosaic40.kinds import CATEGORIES
from fedmosaic.data.mosaic40.language import FACTS, fact
from fedmosaic.data.mosaic40.public_scenes import Talk
from fedmosaic.data.mosaic40.sprites import COLOURS
from fedmosaic.data.mosaic40.tasks import SEEN, UNSEEN, parse
from fedmosaic.data.sample import Sample
from fedmosaic.seeding import derive

MOST_TURNS = 6


class HasPool(Protocol):
    """What the mixture reads of a public bank."""

    pool: Pool


def public_mixture(bank: HasPool, seed: int) -> Iterator[Dialogue]:
    """Yield dialogues without end; the same for the same bank and seed."""
    rng = random.Random(derive(seed, "public-mixture"))
    makers, weights = zip(*_MIXTURE, strict=True)
    while True:
        talk = rng.choices(makers, weights)[0](bank.pool, rng)
        different = {ask.text: ask for ask in rng.sample(talk.asks, len(talk.asks))}
        asks = list(different.values())[: MOST_TURNS - 1]
        if rng.random() < 0.35:
            asks.append(fact(rng))
        texts = [ask.follow_up() for ask in asks]
        texts[0] = f"{marks(len(talk.images))} {texts[0]}"
        keys = tuple(picture.key for picture in talk.images)
        yield Dialogue(keys, tuple((text, ask.answer) for text, ask in zip(texts, asks, strict=True)))


def public_samples(bank: HasPool, n: int, seed: int) -> list[Sample]:
    """Return ``n`` public questions with options, one question each, for alignment and distillation."""
    rng = random.Random(derive(seed, "public-samples"))
    makers, weights = zip(*_MIXTURE, strict=True)
    found: list[Sample] = []
    while len(found) < n:
        talk = rng.choices(makers, weights)[0](bank.pool, rng)
        asks = [ask for ask in talk.asks if ask.options]
        if asks:
            ask = rng.choice(asks)
            keys = tuple(picture.key for picture in talk.images)
            found.append(Sample(f"public-{len(found):05d}", keys, ask.prompt(len(keys)), ask.answer, ask.options))
    return found


def public_texts(n: int, seed: int) -> list[Sample]:
    """Return ``n`` public questions with options that need no image, for aligning models that read text only."""
    rng = random.Random(derive(seed, "public-texts"))
    asks = (ask for ask in iter(lambda: fact(rng), None) if ask.options)
    return [
        Sample(f"public-text-{number:05d}", (), ask.follow_up(), ask.answer, ask.options)
        for number, ask in enumerate(islice(asks, n))
    ]


def corpus(bank: HasPool, *, dialogues: int = 6000) -> Iterator[str]:
    """Yield texts that hold every word of the public mixture and of all tasks, for training tokenizers.

    The clients' own samples are not read: their questions are asked about public pictures instead.
    """
    mixture = public_mixture(bank, seed=0)
    for _ in range(dialogues):
        for text, answer in next(mixture).turns:
            yield f"{text} {answer}"
    yield from sorted({picture["name"] for picture in bank.pool.pictures if _has_name(picture)})
    rng = random.Random(derive(0, "public-corpus"))
    for make in FACTS:
        for _ in range(40):
            ask = make(rng)
            yield f"{ask.follow_up()} {ask.answer}"
    for name in (*SEEN, *UNSEEN):
        for question in task_questions(bank, name, 40, rng):
            yield f"{question.ask.prompt(len(question.images))} {question.ask.answer}"
    for words in (CATEGORIES, COLOURS, ORDINALS, tuple("0123456789")):
        for _ in range(40):
            yield " ".join(rng.sample(words, len(words)))


def task_questions(bank: HasPool, name: str, count: int, rng: random.Random) -> Iterator[Question]:
    """Yield a task's questions, asked about public pictures; none if the public side has no pictures of their kind."""
    skill, domain = parse(name)
    known = bank.pool.domains(skill.kind)
    for _ in range(count if known else 0):
        yield skill.make(bank.pool, domain if domain in known else known[0], rng)


# -- dialogues about icons ---------------------------------------------------------------------------------------


def look(pool: Pool, rng: random.Random) -> str:
    """Return a look for icons; the common ones more often."""
    return rng.choice(("openmoji", "openmoji", "twemoji", "twemoji", "line", "line", "photo", *pool.domains("icon")))


def _of(at: int, total: int) -> str:
    """Return how a question names one of several images."""
    return "this" if total == 1 else f"the {ORDINALS[at]} image"


def icons(pool: Pool, rng: random.Random) -> Talk:
    """One to four icons of different kinds: what, is it, which, colour, captions."""
    total = rng.choice((1, 1, 2, 3, 4))
    domain = look(pool, rng)
    mixed = rng.random() < 0.3
    kinds = rng.sample(CATEGORIES, total)
    if total > 2 and rng.random() < 0.4:
        kinds[-1] = kinds[0]  # two of a kind, so that a kind is no sure sign of one image
    images: list[Picture] = []
    for kind in kinds:
        style = look(pool, rng) if mixed else domain
        images.append(
            pool.icon(kind, style if kind in pool.categories(style, least=2) else "openmoji", rng, apart_from=images)
        )
    asks = [_what(images, kinds, at, rng) for at in range(total)]
    asks += [is_it(kinds, rng) for _ in range(3)]
    asks += [_colour(images, at, rng) for at in range(total) if images[at]["colour"]]
    if total > 1:
        once = [at for at in range(total) if kinds.count(kinds[at]) == 1]
        asks += [which_image(kinds, at, rng) for at in once] * 2
    asks += [_caption(images)] * (2 if total > 1 else 1)
    return Talk(tuple(images), asks)


def which(pool: Pool, rng: random.Random) -> Talk:
    """Two to four icons of one look: several which-image questions in different words."""
    total = rng.choice((2, 3, 3, 4, 4))
    domain = look(pool, rng)
    kinds = rng.sample(pool.categories(domain), total)
    images = tuple(pool.icon(kind, domain, rng) for kind in kinds)
    asks = [which_image(kinds, at, rng) for at in range(total)]
    asks += [_what(list(images), kinds, at, rng) for at in rng.sample(range(total), 2)]
    return Talk(images, asks)


def _what(images: list[Picture], kinds: list[str], at: int, rng: random.Random) -> Ask:
    name = _of(at, len(images))
    text = "what kind of thing is this ?" if name == "this" else f"what kind of thing is {name} ?"
    ask = pick(text, kinds[at], CATEGORIES, rng)
    return ask if rng.random() < 0.6 else Ask(text, kinds[at])


def is_it(kinds: list[str], rng: random.Random) -> Ask:
    """Ask whether one of the images is of a kind; half of the time it is."""
    at = rng.randrange(len(kinds))
    right = rng.random() < 0.5
    kind = kinds[at] if right else rng.choice([c for c in CATEGORIES if c != kinds[at]])
    return yes_no(f"is {_of(at, len(kinds))} {a(kind)} ?", right)


def which_image(kinds: list[str], at: int, rng: random.Random) -> Ask:
    """Ask in which place the kind ``kinds[at]`` is shown."""
    text = rng.choice(("which image shows {} ?", "find {} .", "where do you see {} ?")).format(a(kinds[at]))
    return Ask(text, ORDINALS[at], ORDINALS[: len(kinds)], listed=False)


def _colour(images: list[Picture], at: int, rng: random.Random) -> Ask:
    text = "what is the main color ?" if len(images) == 1 else f"what is the main color of {_of(at, len(images))} ?"
    return pick(text, images[at]["colour"], COLOURS, rng)


def _caption(images: list[Picture]) -> Ask:
    said = [f"{p['colour']} {p['category']}".strip() for p in images]
    if len(images) == 1:
        return Ask("describe the image .", said[0])
    return Ask("describe the images .", " ".join(f"{o} {s}" for o, s in zip(ORDINALS, said, strict=False)))


def match(pool: Pool, rng: random.Random) -> Talk:
    """Match to sample: which other image shows the same thing, in another look, as the first?"""
    total = rng.choice((2, 3, 3))
    first, *others = _things(pool, rng, total)
    sample, target = _two_views(pool, first, rng)
    candidates = [rng.choice(pool.views(other["code"])) for other in others]
    at = rng.randrange(total)
    candidates.insert(at, target)
    images = (sample, *candidates)
    asks = [
        Ask(
            "which other image shows the same thing as the first ?",
            ORDINALS[at + 1],
            ORDINALS[1 : total + 1],
            listed=False,
        )
    ]
    for i in rng.sample(range(total), min(total, 2)):
        asks.append(yes_no(f"do the first and {ORDINALS[i + 1]} image show the same thing ?", i == at))
    kinds = [p["category"] for p in images]
    asks += [_what(list(images), kinds, i, rng) for i in rng.sample(range(total + 1), 2)]
    return Talk(images, asks)


def same(pool: Pool, rng: random.Random) -> Talk:
    """Two icons: the same thing or not; half of the others are of the same kind."""
    one, other = _things(pool, rng, 2)
    first, second = _two_views(pool, one, rng)
    equal = rng.random() < 0.5
    if not equal:
        near = [
            p for p in pool.all("icon", "openmoji") if p["category"] == one["category"] and p["code"] != one["code"]
        ]
        second = rng.choice(pool.views((rng.choice(near) if near and rng.random() < 0.5 else other)["code"]))
    images = [first, second]
    kinds = [p["category"] for p in images]
    asks = [yes_no("do both images show the same thing ?", equal)] * 2
    asks += [_what(images, kinds, at, rng) for at in range(2)]
    return Talk(tuple(images), [*asks[1:], _caption(images)])


def _things(pool: Pool, rng: random.Random, number: int) -> list[Picture]:
    kinds = rng.sample(CATEGORIES, number)
    return [pool.icon(kind, "openmoji", rng) for kind in kinds]


def _two_views(pool: Pool, thing: Picture, rng: random.Random) -> tuple[Picture, Picture]:
    views = list(pool.views(thing["code"]))
    if rng.random() < 0.25:
        view = rng.choice(views)
        return view, view
    one, two = rng.sample(views, 2)
    return one, two


def naming(pool: Pool, rng: random.Random) -> Talk:
    """Names of single icons: finer words than kinds."""
    picture = rng.choice([p for p in pool.all("icon", look(pool, rng)) if _has_name(p)])
    kind = picture["category"]
    return Talk((picture,), [Ask("what is its name ?", picture["name"]), _what([picture], [kind], 0, rng)])


def _has_name(picture: Picture) -> bool:
    """Whether a picture's name is asked for: icons with names of one or two words."""
    return picture.kind == "icon" and len(picture["name"].split()) <= 2


_MIXTURE: tuple[tuple[Callable[[Pool, random.Random], Talk], float], ...] = (
    (icons, 5.0),
    (which, 3.0),
    (match, 3.0),
    (same, 2.5),
    (naming, 0.6),
    (scenes.counts, 2.2),
    (scenes.pairs, 2.5),
    (scenes.grids, 1.5),
    (scenes.edits, 2.2),
    (scenes.bars, 1.6),
    (scenes.pies, 0.8),
    (scenes.lines, 0.6),
    (scenes.digits, 1.2),
    (scenes.flags, 0.3),
)
