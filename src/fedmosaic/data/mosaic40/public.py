"""The public mixture: dialogues about public pictures, for pretraining base models and for alignment.

It covers generic skills (what, which, how many, where, how changed, matching, naming); most questions of the clients'
tasks are different. A dialogue asks several questions about the same images and captions them: dense answers help small
models to associate words with images.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40 import public_scenes as scenes
from fedmosaic.data.mosaic40.bank import Picture, Pool
from fedmosaic.data.mosaic40.categories import CATEGORIES
from fedmosaic.data.mosaic40.public_scenes import QuestionSet
from fedmosaic.data.mosaic40.questions import (
    ORDINALS,
    Question,
    QuestionAnswer,
    image_marks,
    multiple_choice,
    with_article,
    yes_no,
)
from fedmosaic.data.mosaic40.sprites import COLOURS
from fedmosaic.data.mosaic40.tasks import SEEN, UNSEEN, parse
from fedmosaic.data.mosaic40.text_questions import TEXT_QUESTIONS, text_question
from fedmosaic.data.sample import Sample
from fedmosaic.seeding import derive

MOST_TURNS = 6


class HasPool(Protocol):
    """A bank of public pictures.

    Attributes:
        pool: its pictures.
    """

    pool: Pool


def public_mixture(bank: HasPool, seed: int) -> Iterator[Dialogue]:
    """Yield dialogues without end; the same for the same bank and seed.

    Args:
        bank: the public pictures.
        seed: of the dialogues.
    """
    rng = random.Random(derive(seed, "public-mixture"))
    makers, weights = zip(*_MIXTURE, strict=True)
    while True:
        question_set = rng.choices(makers, weights)[0](bank.pool, rng)
        different = {qa.text: qa for qa in rng.sample(question_set.questions, len(question_set.questions))}
        questions = list(different.values())[: MOST_TURNS - 1]
        if rng.random() < 0.35:
            questions.append(text_question(rng))
        texts = [qa.follow_up() for qa in questions]
        texts[0] = f"{image_marks(len(question_set.images))} {texts[0]}"
        keys = tuple(picture.key for picture in question_set.images)
        yield Dialogue(keys, tuple((text, qa.answer) for text, qa in zip(texts, questions, strict=True)))


def public_samples(bank: HasPool, n: int, seed: int) -> list[Sample]:
    """Return public questions with options, one question each, for alignment and distillation.

    Args:
        bank: the public pictures.
        n: number of samples.
        seed: of the samples.
    """
    rng = random.Random(derive(seed, "public-samples"))
    makers, weights = zip(*_MIXTURE, strict=True)
    found: list[Sample] = []
    while len(found) < n:
        question_set = rng.choices(makers, weights)[0](bank.pool, rng)
        questions = [qa for qa in question_set.questions if qa.options]
        if questions:
            qa = rng.choice(questions)
            keys = tuple(picture.key for picture in question_set.images)
            found.append(Sample(f"public-{len(found):05d}", keys, qa.prompt(len(keys)), qa.answer, qa.options))
    return found


def public_texts(n: int, seed: int) -> list[Sample]:
    """Return public questions with options that need no image, for aligning models that read text only.

    Args:
        n: number of samples.
        seed: of the samples.
    """
    rng = random.Random(derive(seed, "public-texts"))
    questions = (qa for qa in iter(lambda: text_question(rng), None) if qa.options)
    return [
        Sample(f"public-text-{number:05d}", (), qa.follow_up(), qa.answer, qa.options)
        for number, qa in enumerate(islice(questions, n))
    ]


def corpus(bank: HasPool, *, dialogues: int = 6000) -> Iterator[str]:
    """Yield texts that hold every word of the public mixture and of all tasks, for training tokenizers.

    The clients' own samples are not used: their questions are asked about public pictures instead.

    Args:
        bank: the public pictures.
        dialogues: number of dialogues of the mixture.
    """
    mixture = public_mixture(bank, seed=0)
    for _ in range(dialogues):
        for text, answer in next(mixture).turns:
            yield f"{text} {answer}"
    yield from sorted({picture["name"] for picture in bank.pool.pictures if _has_name(picture)})
    rng = random.Random(derive(0, "public-corpus"))
    for make in TEXT_QUESTIONS:
        for _ in range(40):
            qa = make(rng)
            yield f"{qa.follow_up()} {qa.answer}"
    for name in (*SEEN, *UNSEEN):
        for question in task_questions(bank, name, 40, rng):
            yield f"{question.qa.prompt(len(question.images))} {question.qa.answer}"
    for words in (CATEGORIES, COLOURS, ORDINALS, tuple("0123456789")):
        for _ in range(40):
            yield " ".join(rng.sample(words, len(words)))


def task_questions(bank: HasPool, name: str, count: int, rng: random.Random) -> Iterator[Question]:
    """Yield a task's questions, asked about public pictures; none if there are no public pictures of the needed kind.

    Args:
        bank: the public pictures.
        name: the task's name.
        count: number of questions.
        rng: draws the questions.
    """
    skill, domain = parse(name)
    known = bank.pool.domains(skill.kind)
    for _ in range(count if known else 0):
        yield skill.make(bank.pool, domain if domain in known else known[0], rng)


# -- dialogues about icons ---------------------------------------------------------------------------------------


def random_domain(pool: Pool, rng: random.Random) -> str:
    """Return a random domain for icons; the common ones are more likely.

    Args:
        pool: the pictures.
        rng: draws the domain.
    """
    return rng.choice(("openmoji", "openmoji", "twemoji", "twemoji", "line", "line", "photo", *pool.domains("icon")))


def _of(at: int, total: int) -> str:
    """Return how a question names one of several images."""
    return "this" if total == 1 else f"the {ORDINALS[at]} image"


def icons(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions about one to four icons: what, is it, which, colour, captions.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    total = rng.choice((1, 1, 2, 3, 4))
    domain = random_domain(pool, rng)
    mixed = rng.random() < 0.3
    kinds = rng.sample(CATEGORIES, total)
    if total > 2 and rng.random() < 0.4:
        kinds[-1] = kinds[0]  # two of a kind, so that a kind is no sure sign of one image
    images: list[Picture] = []
    for kind in kinds:
        image_domain = random_domain(pool, rng) if mixed else domain
        images.append(
            pool.icon(
                kind,
                image_domain if kind in pool.categories(image_domain, least=2) else "openmoji",
                rng,
                apart_from=images,
            )
        )
    questions = [_what(images, kinds, at, rng) for at in range(total)]
    questions += [is_it(kinds, rng) for _ in range(3)]
    questions += [_colour(images, at, rng) for at in range(total) if images[at]["colour"]]
    if total > 1:
        once = [at for at in range(total) if kinds.count(kinds[at]) == 1]
        questions += [which_image(kinds, at, rng) for at in once] * 2
    questions += [_caption(images)] * (2 if total > 1 else 1)
    return QuestionSet(tuple(images), questions)


def which(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return which-image questions, in different words, about two to four icons of one domain.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    total = rng.choice((2, 3, 3, 4, 4))
    domain = random_domain(pool, rng)
    kinds = rng.sample(pool.categories(domain), total)
    images = tuple(pool.icon(kind, domain, rng) for kind in kinds)
    questions = [which_image(kinds, at, rng) for at in range(total)]
    questions += [_what(list(images), kinds, at, rng) for at in rng.sample(range(total), 2)]
    return QuestionSet(images, questions)


def _what(images: list[Picture], kinds: list[str], at: int, rng: random.Random) -> QuestionAnswer:
    name = _of(at, len(images))
    text = "what kind of thing is this ?" if name == "this" else f"what kind of thing is {name} ?"
    qa = multiple_choice(text, kinds[at], CATEGORIES, rng)
    return qa if rng.random() < 0.6 else QuestionAnswer(text, kinds[at])


def is_it(kinds: list[str], rng: random.Random) -> QuestionAnswer:
    """Return the question whether one of the images is of a category; half of the time it is.

    Args:
        kinds: the images' categories, in order.
        rng: draws the image and the category.
    """
    at = rng.randrange(len(kinds))
    right = rng.random() < 0.5
    kind = kinds[at] if right else rng.choice([c for c in CATEGORIES if c != kinds[at]])
    return yes_no(f"is {_of(at, len(kinds))} {with_article(kind)} ?", right)


def which_image(kinds: list[str], at: int, rng: random.Random) -> QuestionAnswer:
    """Return the question which image shows a category.

    Args:
        kinds: the images' categories, in order.
        at: position of the image in question.
        rng: draws the wording.
    """
    text = rng.choice(("which image shows {} ?", "find {} .", "where do you see {} ?")).format(with_article(kinds[at]))
    return QuestionAnswer(text, ORDINALS[at], ORDINALS[: len(kinds)], listed=False)


def _colour(images: list[Picture], at: int, rng: random.Random) -> QuestionAnswer:
    text = "what is the main color ?" if len(images) == 1 else f"what is the main color of {_of(at, len(images))} ?"
    return multiple_choice(text, images[at]["colour"], COLOURS, rng)


def _caption(images: list[Picture]) -> QuestionAnswer:
    captions = [f"{p['colour']} {p['category']}".strip() for p in images]
    if len(images) == 1:
        return QuestionAnswer("describe the image .", captions[0])
    return QuestionAnswer(
        "describe the images .", " ".join(f"{o} {s}" for o, s in zip(ORDINALS, captions, strict=False))
    )


def match(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return the question which other image shows the same thing, in another domain, as the first.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    total = rng.choice((2, 3, 3))
    first, *others = _things(pool, rng, total)
    sample, target = _two_views(pool, first, rng)
    candidates = [rng.choice(pool.views(other["code"])) for other in others]
    at = rng.randrange(total)
    candidates.insert(at, target)
    images = (sample, *candidates)
    questions = [
        QuestionAnswer(
            "which other image shows the same thing as the first ?",
            ORDINALS[at + 1],
            ORDINALS[1 : total + 1],
            listed=False,
        )
    ]
    for i in rng.sample(range(total), min(total, 2)):
        questions.append(yes_no(f"do the first and {ORDINALS[i + 1]} image show the same thing ?", i == at))
    kinds = [p["category"] for p in images]
    questions += [_what(list(images), kinds, i, rng) for i in rng.sample(range(total + 1), 2)]
    return QuestionSet(images, questions)


def same(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return the question whether two icons show the same thing; half of the different ones are of the same category.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
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
    questions = [yes_no("do both images show the same thing ?", equal)] * 2
    questions += [_what(images, kinds, at, rng) for at in range(2)]
    return QuestionSet(tuple(images), [*questions[1:], _caption(images)])


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


def naming(pool: Pool, rng: random.Random) -> QuestionSet:
    """Return questions for the name of a single icon: finer words than categories.

    Args:
        pool: the pictures.
        rng: draws images and questions.
    """
    picture = rng.choice([p for p in pool.all("icon", random_domain(pool, rng)) if _has_name(p)])
    kind = picture["category"]
    return QuestionSet(
        (picture,), [QuestionAnswer("what is its name ?", picture["name"]), _what([picture], [kind], 0, rng)]
    )


def _has_name(picture: Picture) -> bool:
    """Whether a picture's name is asked for: icons with names of one or two words."""
    return picture.kind == "icon" and len(picture["name"].split()) <= 2


_MIXTURE: tuple[tuple[Callable[[Pool, random.Random], QuestionSet], float], ...] = (
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
