"""One question about some images, with its answer: the data type of all training and evaluation data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmosaic.data.texts import check_text, is_blank, quoted
from fedmosaic.errors import DataError

IMAGE_MARK = "<image>"


@dataclass(frozen=True, slots=True)
class Sample:
    """A validated image-text sample.

    Attributes:
        id: unique within its task; errors name it.
        images: keys of the images, in the order of their marks in ``prompt``; the
            :class:`~fedmosaic.data.images.ImageSource` defines what a key means (an index of a bank, or a file's path).
        prompt: the whole user text with one ``<image>`` mark for each image. Options are part of the text.
        answer: the gold answer.
        options: the answers to choose from, or None for an open question.

    Raises:
        DataError: the numbers of marks and images differ, a text is empty, cannot be given to a model or (other than
            the prompt) holds a mark, an option repeats or is the only one, or the answer is not among the options.
    """

    id: str
    images: tuple[str, ...]
    prompt: str
    answer: str
    options: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        marks = self.prompt.count(IMAGE_MARK)
        if marks != len(self.images):
            raise DataError(
                f"sample {self.id!r}: the text has {marks} {IMAGE_MARK} mark(s) but the sample has "
                f"{len(self.images)} image(s); write one mark for each image, at the place where it is to be seen"
            )
        check_text(self.prompt, f"sample {self.id!r}: the prompt")
        if is_blank(self.prompt):
            raise DataError(f"sample {self.id!r}: the prompt is empty; give a text or an image")
        self._check_answer("answer", self.answer)
        if self.options is not None:
            self._check_options(self.options)

    def _check_answer(self, what: str, text: str) -> None:
        check_text(text, f"sample {self.id!r}: the {what}")
        if is_blank(text):
            raise DataError(f"sample {self.id!r}: the {what} is empty; give the model something to say")
        if IMAGE_MARK in text:
            raise DataError(
                f"sample {self.id!r}: the {what} {quoted(text)} holds an {IMAGE_MARK} mark; "
                "images stand in prompts only"
            )

    def _check_options(self, options: tuple[str, ...]) -> None:
        for option in options:
            self._check_answer("option", option)
        if len(options) < 2:
            raise DataError(f"sample {self.id!r}: {len(options)} option(s); expected at least two, or None")
        if len(set(options)) != len(options):
            raise DataError(f"sample {self.id!r}: options repeat: {quoted(list(options))}; each must be given once")
        if self.answer not in options:
            raise DataError(
                f"sample {self.id!r}: the answer {quoted(self.answer)} is not among the options {quoted(list(options))}"
            )


@dataclass(frozen=True, slots=True)
class Task:
    """A named set of samples with disjoint splits.

    Attributes:
        name: e.g. ``odd-one-out@line``.
        family: ``relation``, ``reasoning`` or ``vqa`` for the built-in benchmark; free text for others.
        train, validation, test: the samples; train and validation share no image, conversation or text.
    """

    name: str
    family: str
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            if not getattr(self, split):
                raise DataError(f"task {self.name!r} has no {split} samples; add some or leave the task out")

    def split(self, name: Literal["test", "validation"]) -> tuple[Sample, ...]:
        """Return the samples of a split that scores models.

        Args:
            name: the split.

        Raises:
            DataError: there are none.
        """
        samples = self.test if name == "test" else self.validation
        if not samples:
            raise DataError(f"task {self.name!r} has no {name} samples; use another split (evaluation.split)")
        return samples
