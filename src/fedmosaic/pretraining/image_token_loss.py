"""ImageTokenLoss: auxiliary losses that tie image tokens to the words of what the image shows.

Each image's projected tokens go through the language head and are trained to predict the words of the picture
(category, colour, number, ...) from the public bank; each of the four tokens may predict another word. And after the
first decoder layer the position after an icon is trained to predict its category: gathered in one position, later
layers can compare it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmosaic.data.mosaic40.bank import Picture
from fedmosaic.models.base import Batch
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision import TOKENS_PER_IMAGE

_FACTS = ("category", "colour", "number", "first", "second", "cells", "digit", "edit", "colours", "highest")


class ImageTokenLoss:
    """The words of the public pictures as tokens of one model, and the losses.

    Args:
        pictures: of the public bank.
        model: whose tokens are used; words of several tokens are left out.
    """

    def __init__(self, pictures: Iterable[Picture], model: TinyModel) -> None:
        pictures = list(pictures)
        self._tokens = {picture.key: _tokens(picture, model) for picture in pictures}
        kinds = {p.key: _one_token(model, p["category"]) for p in pictures if p.kind == "icon"}
        self._kinds = {key: token for key, token in kinds.items() if token is not None}
        self._recorded: Tensor | None = None

    @contextmanager
    def recording(self, model: TinyModel) -> Iterator[None]:
        """Return a context that records the first decoder layer's outputs, for :meth:`first_layer_loss`.

        Args:
            model: the model in training.
        """

        def record(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
            self._recorded = output if isinstance(output, Tensor) else output[0]

        handle = model.decoder.layers[0].register_forward_hook(record)  # type: ignore[index,union-attr]
        try:
            yield
        finally:
            handle.remove()
            self._recorded = None

    def first_layer_loss(self, model: TinyModel, keys: Sequence[str], batch: Batch) -> Tensor:
        """Return the cross-entropy of each icon's category, predicted at the position after the icon (a scalar; nats).

        Args:
            model: the model in training, which has just computed ``batch`` inside :meth:`recording`.
            keys: the batch's images, in order.
            batch: as many runs of image tokens as there are keys.
        """
        assert self._recorded is not None, "compute the batch inside recording()"
        is_image = batch.input_ids == model.image_token
        ends = is_image & (is_image.cumsum(1) % TOKENS_PER_IMAGE == 0)
        behind = self._recorded[:, 1:][ends[:, :-1]]
        icons = [row for row, key in enumerate(keys) if key in self._kinds]
        if not icons:
            return behind.sum() * 0
        logits = model.head(model.decoder.norm(behind[icons]))  # type: ignore[operator]
        wanted = torch.tensor([self._kinds[keys[row]] for row in icons], device=logits.device)
        return F.cross_entropy(logits, wanted)

    def loss(self, model: TinyModel, keys: Sequence[str], batch: Batch) -> Tensor:
        """Return the cross-entropy of each picture's words, predicted by its image tokens together (a scalar; nats).

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


def words_of(picture: Picture) -> list[str]:
    """Return the words of what a picture shows.

    Args:
        picture: of the public bank.
    """
    values = [picture.facts[name] for name in _FACTS if name in picture.facts]
    return [str(word) for value in values for word in (value if isinstance(value, list) else [value]) if word != ""]


def _tokens(picture: Picture, model: TinyModel) -> list[int]:
    return sorted({token for word in words_of(picture) if (token := _one_token(model, word)) is not None})


def _one_token(model: TinyModel, word: str) -> int | None:
    """Return the token of a word, or None if it takes several."""
    ids = model.tokenizer.encode(word, add_special_tokens=False)
    return ids[0] if len(ids) == 1 else None
