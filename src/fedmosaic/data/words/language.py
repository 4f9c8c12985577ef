"""Tasks about language: forms of words, opposites, the tone of a review, the order of words."""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise

from fedmosaic.data.words import lexicon
from fedmosaic.data.words.parts import TRAIN, part_of_list
from fedmosaic.data.words.questions import Ask, Question, choice, ordered

OPPOSITES = {
    "adjectives": lexicon.pairs(lexicon.ADJECTIVE_OPPOSITES),
    "verbs": lexicon.pairs(lexicon.VERB_OPPOSITES),
}
NOUNS = (
    *((noun, lexicon.plural(noun)) for noun in lexicon.REGULAR_NOUNS.split()),
    *lexicon.pairs(lexicon.IRREGULAR_NOUNS),
)
VERBS = (
    *((verb, lexicon.past(verb)) for verb in lexicon.REGULAR_VERBS.split()),
    *lexicon.pairs(lexicon.IRREGULAR_VERBS),
)
REVIEWS = {
    "food": (lexicon.FOOD_THINGS, lexicon.FOOD_GOOD, lexicon.FOOD_BAD),
    "travel": (lexicon.TRAVEL_THINGS, lexicon.TRAVEL_GOOD, lexicon.TRAVEL_BAD),
}
TONES = ("positive", "negative")


def plural_of(part: str, rng: random.Random) -> Question:
    """Ask for the plural of a noun, among words with other endings. See :data:`Ask`."""
    noun, many = rng.choice(part_of_list("nouns", NOUNS, part))
    stem = noun[:-1]
    others = {f"{noun}s", f"{noun}es", f"{stem}ies", f"{noun}en", f"{stem}ves"} - {many, noun}
    return choice(f"What is the plural of {noun}?", many, others, rng)


def past_of(part: str, rng: random.Random) -> Question:
    """Ask for the past tense of a verb; an open question. See :data:`Ask`."""
    verb, before = rng.choice(part_of_list("verbs", VERBS, part))
    who = (
        rng.choice(("I", "you", "we", "they")) if part == TRAIN else "they"
    )  # a scored question's verb is new each time
    return Question(f"Today {who} {verb}. What did {who} do yesterday? Give the past tense of {verb}.", before)


def opposite(domain: str, part: str, rng: random.Random) -> Question:
    """Ask for the opposite of a word. See :data:`Ask`.

    Args:
        domain: ``adjectives`` or ``verbs``.
        part: whose words.
        rng: draws.
    """
    own = part_of_list(domain, OPPOSITES[domain], part)
    pair = rng.choice(own)
    word, answer = rng.sample(pair, 2)
    alike = {other for group in lexicon.ALIKE if answer in group for other in group}
    others = {each for other in own if other != pair for each in other}
    return choice(f"Which word means the opposite of {word}?", answer, others, rng, never=alike)


def review(domain: str, part: str, rng: random.Random) -> tuple[str, bool]:
    """Return a made review of two clauses, and whether it praises.

    Args:
        domain: ``food`` or ``travel``.
        part: whose words.
        rng: draws.
    """
    things, good, bad = (part_of_list(f"{domain} {i}", each.split(), part) for i, each in enumerate(REVIEWS[domain]))
    praises = rng.random() < 0.5
    one, other = rng.sample(things, 2)
    how, how_else = rng.sample(good if praises else bad, 2)
    form = rng.choice(
        (
            "The {} {} {} and the {} {} {}.",
            "I thought the {} {} {}, and the {} {} really {}.",
            "The {} {} so {}! The {} {} {}, too.",
        )
    )
    return form.format(one, _was(one), how, other, _was(other), how_else), praises


def sentiment(domain: str, part: str, rng: random.Random) -> Question:
    """Ask whether a review is positive or negative. See :func:`review`."""
    text, praises = review(domain, part, rng)
    return Question(f"Review: {text}\nIs this review positive or negative?", TONES[not praises], TONES)


def sentence(part: str, rng: random.Random) -> list[str]:
    """Return the words of a sentence such as: the baker sings in the park.

    Args:
        part: whose words.
        rng: draws.
    """
    who, does, where = (
        rng.choice(part_of_list(name, words.split(), part))
        for name, words in (("who", lexicon.WHO), ("does", lexicon.DOES), ("where", lexicon.WHERE))
    )
    return ["the", who, does, "in", "the", where]


def word_order(domain: str, part: str, rng: random.Random) -> Question:
    """Ask which of three sentences has its words in the right order. See :data:`Ask`.

    Args:
        domain: ``statements`` or ``questions``.
        part: whose words.
        rng: draws.
    """
    words = sentence(part, rng)
    if domain == "questions":
        words = ["does", *words[:2], words[2].removesuffix("s") if words[2] != "studies" else "study", *words[3:]]
    found = {" ".join(words)}
    while len(found) < 3:
        wrong = rng.sample(words, len(words))
        if not _could_be_right(wrong, nouns={words[-1], words[words.index("the") + 1]}):
            found.add(" ".join(wrong))
    kind = "statement" if domain == "statements" else "question"
    return ordered(f"Which {kind} has its words in the right order?", " ".join(words), sorted(found), rng)


LANGUAGE: dict[str, Ask] = {
    "inflect@plural": plural_of,
    "inflect@past": past_of,
    **{f"opposite@{domain}": partial(opposite, domain) for domain in OPPOSITES},
    **{f"sentiment@{domain}": partial(sentiment, domain) for domain in REVIEWS},
    **{f"word-order@{domain}": partial(word_order, domain) for domain in ("statements", "questions")},
}


def _could_be_right(words: list[str], nouns: set[str]) -> bool:
    """Whether each article has its noun: "in the park the baker sings" is an order in which people speak, too."""
    return all(after in nouns for word, after in pairwise([*words, ""]) if word == "the")


def _was(thing: str) -> str:
    return "were" if thing in ("potatoes", "vegetables", "pancakes") else "was"
