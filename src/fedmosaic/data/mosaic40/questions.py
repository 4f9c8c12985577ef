"""Question texts: one short convention for all tasks, suited to small models."""

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

# What people do with things and where they are found: knowledge that is not in the pictures.
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
# Further acceptable answers: they are never offered as wrong options.
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
class QuestionAnswer:
    """A question and its answer, without images.

    Attributes:
        text: the question; words separated by single spaces.
        answer: the gold answer.
        options: the answers to choose from, or None for an open question.
        listed: whether the prompt lists the options (a yes/no question implies them).
    """

    text: str
    answer: str
    options: tuple[str, ...] | None = None
    listed: bool = True

    def follow_up(self) -> str:
        """Return the user text without image marks, for a later turn of a dialogue."""
        if not self.options or not self.listed:
            return f"{self.text} answer :"
        between = " , " if any(" " in option for option in self.options) else " "
        return f"{self.text} options : {between.join(self.options)} answer :"

    def prompt(self, images: int) -> str:
        """Return the user text, image marks first.

        Args:
            images: number of images; several are numbered by ordinals.
        """
        return f"{image_marks(images)} {self.follow_up()}"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about pictures, from which a sample is made.

    Attributes:
        images: the pictures, in the order in which they are shown.
        qa: the question and its answer.
    """

    images: tuple[Picture, ...]
    qa: QuestionAnswer

    def sample(self, sample_id: str) -> Sample:
        """Return the sample.

        Args:
            sample_id: the sample's id.
        """
        keys = tuple(picture.key for picture in self.images)
        return Sample(sample_id, keys, self.qa.prompt(len(keys)), self.qa.answer, self.qa.options)


def image_marks(images: int) -> str:
    """Return the image marks; with several images each is followed by its ordinal word.

    Args:
        images: number of images, at most five.
    """
    if images == 1:
        return IMAGE_MARK
    return " ".join(f"{IMAGE_MARK} {ordinal}" for ordinal in ORDINALS[:images])


def yes_no(text: str, answer: bool) -> QuestionAnswer:
    """Return a yes/no question; its options are not listed in the prompt.

    Args:
        text: the question.
        answer: True for ``yes``.
    """
    return QuestionAnswer(text, YES_NO[0] if answer else YES_NO[1], YES_NO, listed=False)


def multiple_choice(
    text: str, answer: str, choices: Sequence[str], rng: random.Random, *, number: int = 4
) -> QuestionAnswer:
    """Return a question whose options are the answer and random other choices, in random order.

    Args:
        text: the question.
        answer: the gold answer.
        choices: all possible answers; may include the gold one.
        rng: draws the other options and their order.
        number: number of options; fewer where there are too few choices.
    """
    others = sorted({choice for choice in choices if choice != answer})
    options = [answer, *rng.sample(others, min(number - 1, len(others)))]
    rng.shuffle(options)
    return QuestionAnswer(text, answer, tuple(options))


def with_article(noun: str) -> str:
    """Return a noun with its indefinite article.

    Args:
        noun: in lower case.
    """
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
