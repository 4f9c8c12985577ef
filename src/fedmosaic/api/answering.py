"""Putting a question to a client's final model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from fedmosaic.data.in_memory import InMemoryImages, Picture
from fedmosaic.data.sample import IMAGE_MARK, Sample
from fedmosaic.errors import SettingsError
from fedmosaic.evaluation.score import likeliest_options
from fedmosaic.models import BaseModel
from fedmosaic.models.generation import Said

DEFAULT_TOKENS = 32
"""Longest generated answer, if nothing else is asked for."""


@torch.inference_mode()
def telling(
    model: BaseModel,
    images: InMemoryImages,
    pictures: Sequence[Picture],
    question: str,
    *,
    options: Sequence[str] | None = None,
    max_tokens: int = DEFAULT_TOKENS,
) -> Iterator[Said]:
    """Yield a model's answer to a question about pictures as it grows; the last one is complete.

    Args:
        model: it reads its images from ``images``.
        images: the pictures go there while the question is answered.
        pictures: in the order of their marks.
        question: may say where each picture stands with an ``<image>`` mark; else all stand in front.
        options: the answers to choose from, by their likelihood; None: the answer is generated.
        max_tokens: longest generated answer.

    Raises:
        SettingsError: the question is empty, its marks are not as many as the pictures, or ``max_tokens`` is not a
            whole number from 1.
        DataError: a picture or an option cannot be used, or the model reads no images.
        ModelError: all does not fit into the model's positions.
    """
    check_length(max_tokens)
    prompt = with_marks(question, len(pictures))
    try:
        keys = tuple(map(images.add, pictures))
        for key in keys:
            images.load(key)
        given = None if options is None else tuple(options)
        sample = Sample("question", keys, prompt, answer=given[0] if given else "?", options=given)
        if given is None:
            yield from model.tell(sample, max_tokens=max_tokens)
        else:
            yield _choice(model, sample)
    finally:
        images.clear()


def answer(model: BaseModel, images: InMemoryImages, pictures: Sequence[Picture], question: str, **options: Any) -> str:
    """Return a model's whole answer to a question about pictures.

    Args:
        model: it reads its images from ``images``.
        images: the pictures go there while the question is answered.
        pictures: in the order of their marks.
        question: with a mark for each picture, or none.
        **options: as for :func:`telling`.

    Raises:
        FedMosaicError: as :func:`telling` does.
    """
    *_, said = telling(model, images, pictures, question, **options)
    return said.text


def _choice(model: BaseModel, sample: Sample) -> Said:
    """The likeliest option, counted in the tokens that it would have as an answer."""
    text = likeliest_options(model, [sample])[0][0]
    prompt = int(model.collate([sample], with_answers=False).last[0]) + 1
    return Said(text, len(model.answer_tokens(text)) - 1, prompt, "stop")


def check_length(max_tokens: object) -> None:
    """Make sure that an answer may be so long.

    Args:
        max_tokens: longest generated answer, as somebody gave it.

    Raises:
        SettingsError: it is not a whole number from 1.
    """
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
        raise SettingsError(f"max_tokens={max_tokens!r}: expected a whole number from 1")


def pictures_of(image: Picture | Sequence[Picture] | None) -> Sequence[Picture]:
    """Return the pictures that somebody asks about.

    Args:
        image: one, several, or none.
    """
    if image is None:
        return ()
    return image if isinstance(image, Sequence) and not isinstance(image, str) else (image,)


def with_marks(question: str, images: int) -> str:
    """Return the question with one mark per image, put in front where it has none.

    Args:
        question: with or without marks.
        images: how many there are.

    Raises:
        SettingsError: the question is empty, or its marks are not as many as the images.
    """
    if not question.strip():
        raise SettingsError("the question is empty; expected a text such as 'what is this ?'")
    marks = question.count(IMAGE_MARK)
    if marks not in (0, images):
        raise SettingsError(
            f"the question has {marks} {IMAGE_MARK} mark(s) but {images} image(s) are given; "
            "give one image per mark, or leave the marks out to have all images in front"
        )
    return question if marks else f"{IMAGE_MARK} " * images + question
