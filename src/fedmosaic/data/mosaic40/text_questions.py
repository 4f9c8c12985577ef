"""Questions without images, for the public mixture: world knowledge that a language model has without vision.

They give the words of the clients' questions their meaning in text alone (what an odd one out is, that a fruit is
eaten), so that a client task requires new visual skills, not new words.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from fedmosaic.data.mosaic40.categories import CATEGORIES
from fedmosaic.data.mosaic40.charts import DARK_PALETTE, PALETTE
from fedmosaic.data.mosaic40.questions import (
    NUMBERS,
    ORDINALS,
    PLACES,
    TRUE_FALSE,
    USES,
    QuestionAnswer,
    multiple_choice,
    with_article,
    yes_no,
)
from fedmosaic.data.mosaic40.scene_skills import OPPOSITE, PHRASES
from fedmosaic.data.mosaic40.scenes import EDITS, FLAG_COLOURS
from fedmosaic.data.mosaic40.sprites import COLOURS

_BAR_COLOURS = tuple(sorted({*PALETTE, *DARK_PALETTE}))


def _use(rng: random.Random) -> QuestionAnswer:
    kind = rng.choice(sorted(USES))
    return multiple_choice(
        f"this is {with_article(kind)} . what do people do with it ?", USES[kind], sorted(set(USES.values())), rng
    )


def _place(rng: random.Random) -> QuestionAnswer:
    kind = rng.choice(sorted(PLACES))
    return multiple_choice(
        f"this is {with_article(kind)} . where is it found ?", PLACES[kind], sorted(set(PLACES.values())), rng
    )


def _odd_word(rng: random.Random) -> QuestionAnswer:
    kind, other = rng.sample(CATEGORIES, 2)
    words, at = [kind] * 3, rng.randrange(4)
    words.insert(at, other)
    return QuestionAnswer(
        f"words : {' '.join(words)} . which is the odd one out ?", ORDINALS[at], ORDINALS[:4], listed=False
    )


def _rule(rng: random.Random) -> QuestionAnswer:
    kind, other = rng.sample(CATEGORIES, 2)
    follows = rng.random() < 0.5
    words = f"{kind} {kind} {kind} {kind if follows else other}"
    return yes_no(f"words : {words} . does the last follow the rule of the first three ?", follows)


def _same_kind(rng: random.Random) -> QuestionAnswer:
    kind, other = rng.sample(CATEGORIES, 2)
    same = rng.random() < 0.5
    return yes_no(f"words : {kind} {kind if same else other} . are both of the same kind ?", same)


def _in_common(rng: random.Random) -> QuestionAnswer:
    kind = rng.choice(CATEGORIES)
    colours = rng.sample(COLOURS, 3)
    words = " , ".join(f"{colour} {kind}" for colour in colours)
    return multiple_choice(f"words : {words} . what do all have in common ?", kind, CATEGORIES, rng)


def _next_word(rng: random.Random) -> QuestionAnswer:
    one, two, three = rng.sample(CATEGORIES, 3)
    words, following = rng.choice(
        (((one, two, one, two), one), ((one, two, three, one), two), ((one, two, two, one), two))
    )
    return multiple_choice(f"words : {' '.join(words)} . which kind comes next ?", following, CATEGORIES, rng)


def _not_shown(rng: random.Random) -> QuestionAnswer:
    kinds = rng.sample(CATEGORIES, 4)
    options = tuple(rng.sample(kinds, 4))
    return QuestionAnswer(f"words : {' '.join(kinds[:3])} . which of these kinds is not shown ?", kinds[3], options)


def _analogy(rng: random.Random) -> QuestionAnswer:
    edit, other = rng.sample(EDITS, 2)
    at = rng.randrange(2)
    candidates = [other]
    candidates.insert(at, edit)
    text = f"the first became {edit} . fourth {candidates[0]} , fifth {candidates[1]} . what does the third become ?"
    return QuestionAnswer(text, ORDINALS[3 + at], ORDINALS[3:5])


def _which_changed(rng: random.Random) -> QuestionAnswer:
    at = rng.randrange(3)
    words = ["equal"] * 2
    words.insert(at, rng.choice(EDITS))
    return QuestionAnswer(
        f"words : {' '.join(words)} . which image was changed ?", ORDINALS[at], ORDINALS[:3], listed=False
    )


def _larger(rng: random.Random) -> QuestionAnswer:
    first, second = rng.sample(range(10), 2)
    text, flip = rng.choice((("which digit is larger ?", False), ("which digit is smaller ?", True)))
    answer = ORDINALS[int((second > first) != flip)]
    return QuestionAnswer(f"digits : {first} {second} . {text}", answer, ORDINALS[:2], listed=False)


def _more(rng: random.Random) -> QuestionAnswer:
    first, second = rng.sample(NUMBERS, 2)
    kind = rng.choice(CATEGORIES)
    text = f"first {first} {kind} , second {second} {kind} . which image has more things ?"
    return QuestionAnswer(text, ORDINALS[int(second > first)], ORDINALS[:2], listed=False)


def _parity(rng: random.Random) -> QuestionAnswer:
    digit = rng.randrange(10)
    return QuestionAnswer(
        f"is the number {digit} even or odd ?", ("even", "odd")[digit % 2], ("even", "odd"), listed=False
    )


def _extreme(rng: random.Random) -> QuestionAnswer:
    number = rng.randint(3, 5)
    colours, sizes = rng.sample(_BAR_COLOURS, number), rng.sample(range(1, 10), number)
    by_size = dict(zip(sizes, colours, strict=True))
    listed = " , ".join(f"{colour} {size}" for size, colour in by_size.items())
    low = rng.random() < 0.5
    text = rng.choice(("which bar is the {} ?", "which slice is the {} ?"))
    words = (("lowest", "highest") if "bar" in text else ("smallest", "largest"))[int(not low)]
    answer = by_size[min(sizes) if low else max(sizes)]
    return QuestionAnswer(f"sizes : {listed} . {text.format(words)}", answer, tuple(sorted(colours)))


def _how_many_bars(rng: random.Random) -> QuestionAnswer:
    number = rng.randint(2, 5)
    colours = rng.sample(_BAR_COLOURS, number)
    return QuestionAnswer(f"bars : {' '.join(colours)} . how many bars are there ?", str(number), NUMBERS)


def _line(rng: random.Random) -> QuestionAnswer:
    values = sorted(rng.sample(range(10), 4))
    if rng.random() < 0.5:
        up = rng.random() < 0.5
        text = f"line : {' '.join(map(str, values if up else values[::-1]))} . does the line go up or down ?"
        return QuestionAnswer(text, "up" if up else "down", ("up", "down"), listed=False)
    left = rng.random() < 0.5
    order = [values[1], values[3], values[2], values[0]] if left else [values[0], values[1], values[3], values[2]]
    text = f"line : {' '.join(map(str, order))} . is the peak on the left or on the right ?"
    return QuestionAnswer(text, "left" if left else "right", ("left", "right"), listed=False)


def _true_false(rng: random.Random) -> QuestionAnswer:
    one, two = rng.sample(CATEGORIES, 2)
    stated, asked = rng.choice(sorted(PHRASES)), rng.choice(sorted(PHRASES))
    if rng.random() < 0.5:
        asked, subject, other = rng.choice(((stated, one, two), (OPPOSITE[stated], two, one)))
        true = True
    else:
        subject, other, true = one, two, asked == stated
    text = f"the {one} is {PHRASES[stated]} the {two} . true or false : the {subject} is {PHRASES[asked]} the {other} ."
    return QuestionAnswer(text, TRUE_FALSE[int(not true)], TRUE_FALSE, listed=False)


def _happened(rng: random.Random) -> QuestionAnswer:
    one, two, three = rng.sample(CATEGORIES, 3)
    change, after = rng.choice(
        (("removed", one), ("added", f"{one} {two} {three}"), ("replaced", f"{one} {three}"), ("moved", f"{two} {one}"))
    )
    text = f"first {one} {two} , second {after} . what happened to the things in the second image ?"
    return QuestionAnswer(text, change, ("moved", "replaced", "removed", "added"))


def _arranged(rng: random.Random) -> QuestionAnswer:
    first, second = rng.choice(sorted(PHRASES)), rng.choice(sorted(PHRASES))
    flat = ("left", "right")
    text = f"first {PHRASES[first]} , second {PHRASES[second]} . are the things arranged the same way in both images ?"
    return yes_no(text, (first in flat) == (second in flat))


def _flag(rng: random.Random) -> QuestionAnswer:
    colours = rng.sample(FLAG_COLOURS, 3)
    wanted = rng.choice(FLAG_COLOURS)
    return yes_no(f"flag : {' '.join(colours)} . is there {wanted} in the flag ?", wanted in colours)


TEXT_QUESTIONS: tuple[Callable[[random.Random], QuestionAnswer], ...] = (
    _use,
    _use,
    _use,
    _place,
    _place,
    _odd_word,
    _rule,
    _same_kind,
    _in_common,
    _next_word,
    _not_shown,
    _analogy,
    _which_changed,
    _larger,
    _more,
    _parity,
    _extreme,
    _how_many_bars,
    _line,
    _true_false,
    _happened,
    _arranged,
    _flag,
)


def text_question(rng: random.Random) -> QuestionAnswer:
    """Return one question that needs no image.

    Args:
        rng: draws the question.
    """
    return rng.choice(TEXT_QUESTIONS)(rng)
