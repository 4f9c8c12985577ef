"""Prompts that are read once, whatever is to follow them: the options of a question, or what has been said so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.models.batch import Batch, following, left_padded
from fedmosaic.models.past import Past
from fedmosaic.models.reader import Reader


def read(model: Reader, batch: Batch) -> tuple[Past, Tensor]:
    """Return the past of prompts, and the hidden states (B, d) from which their first answer tokens are predicted.

    Args:
        model: keeps a past.
        batch: prompts, padded on the right.
    """
    past = Past()
    return past, model.hidden_states(dataclasses.replace(left_padded(batch), past=past))[:, -1]


class Prompts:
    """A batch of prompts with its past, which does not change.

    Args:
        model: keeps a past.
        batch: prompts, padded on the right.

    Attributes:
        lengths: (B,) tokens of each.
        hidden: (B, d) the hidden states from which each prompt's first answer token is predicted.
    """

    def __init__(self, model: Reader, batch: Batch) -> None:
        self._model = model
        self._batch = batch
        self.lengths = batch.last + 1
        self._past, self.hidden = read(model, batch)

    def after(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> Tensor:
        """Return the hidden states of tokens that follow prompts.

        Args:
            rows: the n prompts that are followed; one may come several times.
            texts: the n token sequences.

        Returns:
            (n, longest, d); a row's states after its last token mean nothing.
        """
        device = self.hidden.device
        width = max(1, *map(len, texts))
        tokens = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], device=device)
        mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts], device=device)
        chosen = torch.tensor(rows, device=device)
        return self._model.hidden_states(following(self._batch, tokens, mask, self._past.of(chosen), chosen))
