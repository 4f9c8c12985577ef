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

from fedmosaic.data.sample import Sample
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
        question: shortened.
        answer: the right one, shortened.
        images: small, as data URIs.
        answered: by when: of the base model, after training, after the last exchange.
    """

    task: str
    question: str
    answer: str
    images: tuple[str, ...] = ()
    answered: Mapping[When, str] = field(default_factory=dict)


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
    before = {(each.task, each.question): each.answered for each in known}
    found = []
    for position, (task, sample) in enumerate(asked):
        each = Example(task, _short(sample.prompt), _short(sample.answer))
        now = {when: _short(texts[position]) for when, texts in answered.items()}
        images = tuple(_small(load(key)) for key in sample.images[:_MOST_IMAGES])
        found.append(replace(each, images=images, answered={**before.get((task, each.question), {}), **now}))
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


@dataclass(frozen=True)
class _Kept:
    examples: tuple[Example, ...]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _small(image: Image.Image) -> str:
    image = image.copy()
    image.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    image.save(data, "PNG" if image.width * image.height <= 32 * 32 else "JPEG")
    kind = "png" if data.getvalue().startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
