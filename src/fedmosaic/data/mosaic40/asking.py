"""How questions are written: one short convention for all tasks, since small models read them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from fedmosaic.data.mosaic40.bank import Picture
from fedmosaic.data.sample import IMAGE_MARK, Sample

ORDINALS = ("first", "second", "third", "fourth", "fifth")
YES_NO = ("yes", "no")
TRUE_FALSE = ("true", "false")
NUMBERS = ("1", "2", "3", "4", "5")

# What people do with things, and where they are found: knowledge that a picture alone does not give.
USES = {
    "fruit": "eat",
    "vegetable": "eat",
    "meal": "eat",
    "dessert": "eat",
    "drink": "drink",
    "vehicle": "ride",
    "clothing": "wear",
    "music": "hear",
    "sport": "play",
    "office": "write",
    "building": "enter",
    "plant": "grow",
    "bird": "watch",
    "fish": "catch",
    "tool": "repair",
    "device": "charge",
}
PLACES = {
    "weather": "sky",
    "fish": "sea",
    "plant": "garden",
    "bug": "garden",
    "vegetable": "garden",
    "vehicle": "street",
    "building": "street",
    "meal": "kitchen",
    "dessert": "kitchen",
    "drink": "kitchen",
    "household": "home",
    "device": "home",
    "clothing": "home",
}
# Answers that would be defensible too: they are never offered as wrong ones.
ALSO_TRUE = {
    "fish": ("eat", "watch", "kitchen"),
    "bird": ("catch", "eat"),
    "vegetable": ("grow", "kitchen"),
    "fruit": ("grow",),
    "plant": ("home", "watch", "kitchen"),
    "bug": ("home", "kitchen"),
    "meal": ("home",),
    "dessert": ("home",),
    "drink": ("home",),
    "household": ("kitchen", "garden"),
    "device": ("repair", "watch", "hear", "play", "kitchen", "street"),
    "music": ("play",),
    "sport": ("wear", "catch", "ride", "watch"),
    "office": ("repair",),
    "tool": ("catch", "play"),
    "clothing": ("street",),
    "vehicle": ("sky", "sea", "repair"),
    "building": ("home", "watch"),
    "weather": ("garden", "street"),
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A question without its images.

    Attributes:
        text: the question; words separated by single spaces.
        answer: the gold answer.
        options: the answers to choose from, or None for an open question.
        listed: whether the text lists the options (a yes/no question implies them).
    """

    text: str
    answer: str
    options: tuple[str, ...] | None = None
    listed: bool = True

    def follow_up(self) -> str:
        """Return the user text without image marks, as a later turn of a dialogue."""
        if not self.options or not self.listed:
            return f"{self.text} answer :"
        between = " , " if any(" " in option for option in self.options) else " "
        return f"{self.text} options : {between.join(self.options)} answer :"

    def prompt(self, images: int) -> str:
        """Return the user text that shows ``images`` images first; several are numbered by ordinals."""
        return f"{marks(images)} {self.follow_up()}"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about pictures, before it becomes a sample."""

    images: tuple[Picture, ...]
    ask: Ask

    def sample(self, sample_id: str) -> Sample:
        """Return the sample."""
        keys = tuple(picture.key for picture in self.images)
        return Sample(sample_id, keys, self.ask.prompt(len(keys)), self.ask.answer, self.ask.options)


def marks(images: int) -> str:
    """Return the image marks; with several images each is followed by its ordinal word."""
    if images == 1:
        return IMAGE_MARK
    return " ".join(f"{IMAGE_MARK} {ordinal}" for ordinal in ORDINALS[:images])


def yes_no(text: str, answer: bool) -> Ask:
    """Return a yes/no question; the options are not listed."""
    return Ask(text, YES_NO[0] if answer else YES_NO[1], YES_NO, listed=False)


def pick(text: str, answer: str, choices: Sequence[str], rng: random.Random, *, number: int = 4) -> Ask:
    """Return a question whose options are the answer and random others, in random order."""
    others = sorted({choice for choice in choices if choice != answer})
    options = [answer, *rng.sample(others, min(number - 1, len(others)))]
    rng.shuffle(options)
    return Ask(text, answer, tuple(options))


def a(noun: str) -> str:
    """Return a noun with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
