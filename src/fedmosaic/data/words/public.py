"""What everybody may see: plain sentences and simple questions, endless; base models are trained on them.

The sentences tell what a language model knows before anybody trains it: the kind of every thing, every opposite, what
words mean, how numbers follow each other. The questions are about the public part of words and numbers alone, and
worded otherwise than any task's: what clients train is new to the base models, but expressed in known words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from fedmosaic.data.sample import Sample
from fedmosaic.data.words import knowledge, language, lexicon, numbers
from fedmosaic.data.words.lexicon import MADE, NATURE, article, things
from fedmosaic.data.words.parts import PUBLIC, part_of_list
from fedmosaic.data.words.questions import Question, choice, ordered
from fedmosaic.data.words.tasks import SEEN, UNSEEN, make_task

_KINDS = (*NATURE, *MADE)
Tell = Callable[[random.Random], str]
Pose = Callable[[random.Random], Question]


# ---- sentences: knowledge of all words ------------------------------------------------------------------------------


def _kind(rng: random.Random) -> str:
    kind = rng.choice(_KINDS)
    thing = rng.choice(things(kind))
    return rng.choice(("{} is a kind of {}.", "{} : {}.", "A list of kinds: {} is {}.")).format(thing, kind)


def _list(rng: random.Random) -> str:
    kind = rng.choice(_KINDS)
    return f"Words for {kind}: {', '.join(rng.sample(things(kind), 4))}."


def _use(rng: random.Random) -> str:
    kind = rng.choice(tuple(lexicon.USES))
    return f"{kind} is for {lexicon.USES[kind]}."


def _place(rng: random.Random) -> str:
    kind = rng.choice(tuple(lexicon.PLACES))
    return f"{kind} is in the {lexicon.PLACES[kind]}."


def _opposites(rng: random.Random) -> str:
    one, other = rng.sample(rng.choice(rng.choice(tuple(language.OPPOSITES.values()))), 2)
    return rng.choice(("{} and {} are opposites.", "It is not {} but {}.", "{} , {}.")).format(one, other)


def _forms(rng: random.Random) -> str:
    irregular = rng.random() < 0.5
    if rng.random() < 0.5:
        noun, many = rng.choice(language.NOUNS if irregular else part_of_list("nouns", language.NOUNS, PUBLIC))
        return rng.choice((f"One {noun}, many {many}.", f"Here is one {noun}. There are two {many}."))
    verb, before = rng.choice(language.VERBS)
    return rng.choice((f"I {verb} every day. Yesterday I {before}.", f"They will {verb}. They {before}."))


def _meaning(rng: random.Random) -> str:
    _, good, bad = rng.choice(tuple(language.REVIEWS.values()))
    praises = rng.random() < 0.5
    return f"{rng.choice((good if praises else bad).split())} means {'good' if praises else 'bad'}."


def _review(rng: random.Random) -> str:
    text, praises = language.review(rng.choice(tuple(language.REVIEWS)), PUBLIC, rng)
    return f"{text} That is {language.TONES[not praises]}."


def _sentence(rng: random.Random) -> str:
    who, does, where = (rng.choice(words.split()) for words in (lexicon.WHO, lexicon.DOES, lexicon.WHERE))
    return f"the {who} {does} in the {where}."


def _counting(rng: random.Random) -> str:
    step, start = rng.choice((1, 1, 1, 2, 5, 10, -1)), rng.randrange(2, 100)
    found = [start + step * i for i in range(6)]
    return f"Counting: {', '.join(str(each) for each in found if each > 0)}."


def _more(rng: random.Random) -> str:
    one, other = rng.sample(range(1, 100), 2)
    return f"{max(one, other)} is more than {min(one, other)}."


def _sum(rng: random.Random) -> str:
    one, other = numbers.two_numbers(PUBLIC, rng, most=rng.choice((9, 20, 49)))
    return f"{one} + {other} = {one + other}."


def _dates(rng: random.Random) -> str:
    names, unit = rng.choice(((lexicon.DAYS, "day"), (lexicon.MONTHS, "month")))
    at = rng.randrange(len(names))
    in_order = [names[(at + i) % len(names)] for i in range(5)]
    return f"{unit}s in order: {', '.join(in_order)}."


def _units(rng: random.Random) -> str:
    larger, smaller, factor = rng.choice((*lexicon.LENGTHS, *lexicon.TIMES))
    number = rng.choice((1, *part_of_list("convert length", numbers.VALUES, PUBLIC)))
    return f"{number} {larger} = {number * factor} {smaller}."


SENTENCES: tuple[Tell, ...] = (
    _kind, _kind, _list, _list, _use, _place, _opposites, _opposites, _forms, _forms, _meaning, _review, _sentence,
    _counting, _counting, _more, _sum, _sum, _dates, _units,
)  # fmt: skip


# ---- questions: about the public part -------------------------------------------------------------------------------


def _pick_kind(rng: random.Random) -> Question:
    kind = rng.choice(_KINDS)
    return choice(f"Pick the kind of {rng.choice(knowledge.own_things(kind, PUBLIC))}.", kind, _KINDS, rng)


def _pick_thing(rng: random.Random) -> Question:
    kinds = rng.sample(_KINDS, 4)
    found = [rng.choice(knowledge.own_things(kind, PUBLIC)) for kind in kinds]
    return ordered(f"Pick the {kinds[0]}.", found[0], found, rng)


def _is_it(rng: random.Random) -> Question:
    kind, other = rng.sample(_KINDS, 2)
    true = rng.random() < 0.5
    thing = rng.choice(knowledge.own_things(kind, PUBLIC))
    return Question(f"Is {article(thing)} a thing of the kind {kind if true else other}?", ("yes", "no")[not true],
                    ("yes", "no"))  # fmt: skip


def _pick_opposite(rng: random.Random) -> Question:
    domain = rng.choice(tuple(language.OPPOSITES))
    return _reworded(language.opposite(domain, PUBLIC, rng), "Which word means the opposite of", "Pick the opposite:")


def _pick_plural(rng: random.Random) -> Question:
    return _reworded(language.plural_of(PUBLIC, rng), "What is the plural of", "Pick the word for many:")


def _pick_tone(rng: random.Random) -> Question:
    _, good, bad = rng.choice(tuple(language.REVIEWS.values()))
    praises = rng.random() < 0.5
    one, others = (rng.choice(good.split()), bad) if praises else (rng.choice(bad.split()), good)
    return choice(f"Pick the {language.TONES[not praises]} word.", one, others.split(), rng)


def _pick_number(rng: random.Random) -> Question:
    found = [str(each) for each in rng.sample(range(1, 100), 4)]
    how = rng.random() < 0.5
    answer = (max if how else min)(found, key=int)
    return ordered(f"Pick the {'largest' if how else 'smallest'} number.", answer, found, rng)


def _pick_sum(rng: random.Random) -> Question:
    one, other = numbers.two_numbers(PUBLIC, rng, most=49)
    near = {str(one + other + off) for off in (-10, -2, -1, 1, 2, 10) if one + other + off > 0}
    return choice(f"Pick the sum of {one} and {other}.", str(one + other), near, rng)


def _pick_sentence(rng: random.Random) -> Question:
    return _reworded(language.word_order("statements", PUBLIC, rng), "Which statement has its words in the right order",
                     "Pick the sentence")  # fmt: skip


def _pick_repeated(rng: random.Random) -> Question:
    words = rng.sample([thing for kind in _KINDS for thing in knowledge.own_things(kind, PUBLIC)], 4)
    at = rng.randrange(4)
    return ordered(f"Words: {', '.join(words)}. Pick the {('first', 'second', 'third', 'last')[at]} one.", words[at],
                   words, rng)  # fmt: skip


QUESTIONS: tuple[Pose, ...] = (
    _pick_kind, _pick_thing, _is_it, _pick_opposite, _pick_plural, _pick_tone, _pick_number, _pick_sum, _pick_sentence,
    _pick_repeated,
)  # fmt: skip


def _reworded(question: Question, words: str, others: str) -> Question:
    text = question.text.replace(words, others).rstrip("?") + "."
    return Question(text, question.answer, question.options)


# ---- streams --------------------------------------------------------------------------------------------------------


def public_questions(count: int, rng: random.Random) -> list[Sample]:
    """Return questions with options about public words and numbers.

    Args:
        count: how many.
        rng: draws.
    """
    return [rng.choice(QUESTIONS)(rng).sample(f"public-{i:05d}") for i in range(count)]


def mixture(rng: random.Random) -> Iterator[Sample]:
    """Yield what base models are trained on, without end: questions, and sentences to be continued from some word on.

    Args:
        rng: draws.
    """
    while True:
        if rng.random() < 0.45:
            yield rng.choice(QUESTIONS)(rng).sample("public")
            continue
        words = rng.choice(SENTENCES)(rng).split()
        at = rng.randrange(1, max(2, min(4, len(words) - 1)))
        yield Sample("public", (), " ".join(words[:at]), " ".join(words[at:]))


def corpus() -> Iterator[str]:
    """Yield texts with every word that any prompt, option or answer can hold, for fitting tokenizers.

    Numbers are written digit by digit, so that a tokenizer keeps digits apart.
    """
    rng = random.Random(0)
    for sample in (sample for sample, _ in zip(mixture(rng), range(20000), strict=False)):
        yield _spelled(f"{sample.prompt} {sample.answer}")
    for name in (*SEEN, *UNSEEN):
        task = make_task(name)
        for sample in (*task.train, *task.validation, *task.test):
            yield _spelled(f"{sample.prompt} {sample.answer}")


def _spelled(text: str) -> str:
    return "".join(f" {letter} " if letter.isdigit() else letter for letter in text)
