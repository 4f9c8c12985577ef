"""A handful of a client's own test questions with its models' answers, for people to read; they stay with the client.

They are asked after everything was scored, so that scores are what they were without them, and are the first samples of
the client's tasks, chosen before anybody has answered.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fedmosaic.data.sample import IMAGE_MARK, Sample
from fedmosaic.evaluation.score import likeliest_options
from fedmosaic.federation.results import parsed
from fedmosaic.federation.run_folder import When
from fedmosaic.io import load_json, write_atomically
from fedmosaic.models import BaseModel

_MOST = 4
_MOST_IMAGES = 6
_LONGEST = 400
_SIDE = 96
"""Pixels of the longer side of an image as it is kept."""
_NAME = "examples.json"
_ADVICE = "remove it to do without"


@dataclass(frozen=True)
class Example:
    """One question and what was answered.

    Attributes:
        task: its name.
        question: the whole prompt; an earlier version, which kept no sample's id, shortened it, and all answers.
        answer: the right one.
        images: the first ones, small, as data URIs.
        answered: by when: of the base model, after training, after the last exchange.
        sample: its id within the task.
    """

    task: str
    question: str
    answer: str
    images: tuple[str, ...] = ()
    answered: Mapping[When, str] = field(default_factory=dict)
    sample: str | None = None

    @property
    def whole(self) -> bool:
        """Whether question and images are all that the models were asked."""
        cut = self.sample is None and len(self.question) > _LONGEST
        return not cut and self.question.count(IMAGE_MARK) == len(self.images)


def chosen(samples: Mapping[str, Sequence[Sample]]) -> list[tuple[str, Sample]]:
    """Return the first samples of each task in turn, a handful in all.

    Args:
        samples: by task.
    """
    turns = zip_longest(*([(task, each) for each in found] for task, found in samples.items()))
    return list(islice((each for turn in turns for each in turn if each is not None), _MOST))


def answers(model: BaseModel, asked: Sequence[tuple[str, Sample]], *, max_tokens: int) -> list[str]:
    """Return what a model answers, as it is scored: the likeliest option, or a generated text.

    Args:
        model: as it answers.
        asked: of :func:`chosen`.
        max_tokens: longest generated answer.
    """
    with torch.inference_mode():
        return [
            likeliest_options(model, [sample])[0][0]
            if sample.options
            else model.answer([sample], max_tokens=max_tokens)[0]
            for _, sample in asked
        ]


def keep(
    folder: Path,
    asked: Sequence[tuple[str, Sample]],
    answered: Mapping[When, Sequence[str]],
    *,
    load: Callable[[str], Image.Image],
) -> None:
    """Keep questions with their answers; those after training, which come first, replace those of an earlier end.

    Args:
        folder: the client's.
        asked: of :func:`chosen`.
        answered: by when, one for each question.
        load: gives an image.
    """
    known = [] if "final" in answered else read(folder)
    found = []
    for position, (task, sample) in enumerate(asked):
        images = tuple(_small(load(key)) for key in sample.images[:_MOST_IMAGES])
        now = {when: texts[position] for when, texts in answered.items()}
        found.append(Example(task, sample.prompt, sample.answer, images, now, sample.id))
    for position, before in enumerate(same(found, known)):
        if before is not None:
            found[position] = replace(found[position], answered={**before.answered, **found[position].answered})
    write_atomically(folder / _NAME, json.dumps({"examples": [vars(each) for each in found]}) + "\n")


def read(folder: Path) -> list[Example]:
    """Return what was kept; nothing if nothing was.

    Args:
        folder: the client's.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / _NAME
    if not path.is_file():
        return []
    table: dict[str, Any] = load_json(path, advice=_ADVICE)
    return list(parsed(_Kept, table, path=path, advice=_ADVICE).examples)


def same(examples: Sequence[Example], others: Sequence[Example]) -> list[Example | None]:
    """Return for each example the one of others that is of the same sample, or None.

    Where samples' ids were not kept, those of a task with the same question are taken in their order.

    Args:
        examples: of a client.
        others: of the same client.
    """
    by_id = all(each.sample is not None for each in (*examples, *others))
    known = dict(zip(_keys(others, by_id=by_id), others, strict=True))
    return [known.get(key) for key in _keys(examples, by_id=by_id)]


def short(text: str) -> str:
    """Return a text as it is shown, cut if it is long.

    Args:
        text: any.
    """
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


@dataclass(frozen=True)
class _Kept:
    examples: tuple[Example, ...]


def _keys(examples: Sequence[Example], *, by_id: bool) -> list[tuple[str, str | None, int]]:
    if by_id:
        return [(each.task, each.sample, 0) for each in examples]
    pairs = [(each.task, short(each.question)) for each in examples]
    return [(*pair, pairs[:position].count(pair)) for position, pair in enumerate(pairs)]


def _small(image: Image.Image) -> str:
    image = image.copy()
    image.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    image.save(data, "PNG" if image.width * image.height <= 32 * 32 else "JPEG")
    kind = "png" if data.getvalue().startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
