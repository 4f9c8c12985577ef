"""A projector's start: image tokens become the words of what the image shows, before any language model reads them.

A random projector gives a language model noise, and it takes many passes through its layers to find out what the tokens
mean. The words of the public pictures (category, colour, number, ...) are known, so the projector is trained first:

    loss = -log mean over the image's tokens of softmax(k cos(token - c, E_w - c)), averaged over the picture's words w

with E_w the input embedding of a word, c the words' mean and k = 20. One of four tokens may say the colour, another the
kind. It costs seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmosaic.data.mosaic40.bank import Picture
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision import TOKENS_PER_IMAGE
from fedmosaic.pretraining.image_token_loss import words_of
from fedmosaic.seeding import generator

_SHARPNESS = 20.0
_BATCH = 256
_LR = 2e-3


def name_pictures(model: TinyModel, pictures: Sequence[Picture], *, steps: int, noise: float, seed: int) -> float:
    """Train a model's projector to name pictures, in place, and return the mean loss of the last tenth (nats).

    Args:
        model: its projector is float32 and trainable, its embeddings are frozen.
        pictures: whose features the model has.
        steps: of AdamW, with a linear decay.
        noise: standard deviation of the noise on the tower's features.
        seed: of the draws.
    """
    projector: Any = model.module.model.multi_modal_projector
    known = {picture.key: tokens for picture in pictures if (tokens := word_tokens(picture, model))}
    keys, places = (
        sorted(known),
        {token: at for at, token in enumerate(sorted({t for ts in known.values() for t in ts}))},
    )
    features = model.features.get(keys).to(model.device)
    wanted = torch.zeros(len(keys), len(places))
    for row, key in enumerate(keys):
        wanted[row, [places[token] for token in known[key]]] = 1 / len(known[key])
    wanted = wanted.to(model.device)
    words = model.module.get_input_embeddings()(torch.tensor(sorted(places), device=model.device)).float()
    centre = words.mean(0)
    draws = generator(seed, "named-pictures")
    optimiser = torch.optim.AdamW(projector.parameters(), lr=_LR, betas=(0.9, 0.98), weight_decay=0.0)
    losses = []
    for step in range(steps):
        rows = torch.randint(len(keys), (_BATCH,), generator=draws).to(model.device)
        disturbed = features[rows] + noise * torch.randn(_BATCH, *features.shape[1:], generator=draws).to(model.device)
        loss = _naming_loss(projector(disturbed) - centre, words - centre, wanted[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.param_groups[0]["lr"] = _LR * (1 - step / steps)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    _as_large_as_words(projector, features, words)
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last)


def word_tokens(picture: Picture, model: TinyModel) -> list[int]:
    """Return a token for each word of a picture: the word's first, or the digit itself where numbers follow a space.

    Args:
        picture: of the public bank.
        model: whose tokenizer is used.
    """
    encoded = [(word, model.tokenizer.encode(f" {word}", add_special_tokens=False)) for word in words_of(picture)]
    return sorted({ids[-1] if word.isdigit() else ids[0] for word, ids in encoded})


def _naming_loss(tokens: Tensor, words: Tensor, wanted: Tensor) -> Tensor:
    each = (_SHARPNESS * F.normalize(tokens, dim=-1) @ F.normalize(words, dim=-1).T).log_softmax(-1)
    together = each.logsumexp(dim=1) - math.log(TOKENS_PER_IMAGE)
    return -(wanted * together).sum(-1).mean()


@torch.no_grad()
def _as_large_as_words(projector: nn.Module, features: Tensor, words: Tensor) -> None:
    """Scale the projector's output to the embeddings' size, which a cosine does not see."""
    last: Any = projector.get_submodule("linear_2")
    factor = words.pow(2).mean().sqrt() / projector(features[:1024]).pow(2).mean().sqrt()
    last.weight.mul_(factor)
    last.bias.mul_(factor)
