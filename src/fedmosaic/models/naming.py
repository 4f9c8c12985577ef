"""Naming: a help in pretraining that puts image tokens where the words live.

Each image's projected tokens are read by the language head and shall name what the picture shows (its kind, colour,
number, ...), as the public bank knows it. One of the four tokens may name one thing and the next another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from fedmosaic.data.mosaic40.bank import Picture
from fedmosaic.models.base import Batch
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision import TOKENS_PER_IMAGE

_FACTS = ("category", "colour", "number", "first", "second", "cells", "digit", "edit", "colours", "highest")


class Naming:
    """The words of the public pictures, as tokens of one model.

    Args:
        pictures: of the public bank.
        model: whose tokens they shall be; words of several tokens are left out.
    """

    def __init__(self, pictures: Iterable[Picture], model: TinyModel) -> None:
        self._tokens = {picture.key: _tokens(picture, model) for picture in pictures}

    def loss(self, model: TinyModel, keys: Sequence[str], batch: Batch) -> Tensor:
        """Return the cross-entropy between what each image's tokens name together and its picture's words.

        Args:
            model: the model in training.
            keys: the batch's images, in order.
            batch: with ``features`` (images, 4, 256).
        """
        projected = model.module.model.multi_modal_projector(batch.vision["features"])
        each = model.head(model.decoder.norm(projected)).log_softmax(dim=-1)  # type: ignore[operator]
        together = each.logsumexp(dim=1) - math.log(TOKENS_PER_IMAGE)
        wanted = torch.zeros_like(together)
        for row, key in enumerate(keys):
            if tokens := self._tokens[key]:
                wanted[row, tokens] = 1 / len(tokens)
        return -(wanted * together).sum(-1).mean()


def _tokens(picture: Picture, model: TinyModel) -> list[int]:
    values = [picture.facts[name] for name in _FACTS if name in picture.facts]
    words = [str(word) for value in values for word in (value if isinstance(value, list) else [value]) if word != ""]
    encoded = [model.tokenizer.encode(word, add_special_tokens=False) for word in words]
    return sorted({ids[0] for ids in encoded if len(ids) == 1})
