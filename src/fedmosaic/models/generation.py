"""Greedy answers, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.models.batch import Batch, appended, following
from fedmosaic.models.prompts import read
from fedmosaic.models.reader import Reader


def greedy(model: Reader, samples: Sequence[Sample], max_tokens: int) -> list[str]:
    """Return the greedy answer to each prompt.

    Args:
        model: answers.
        samples: their answers are not used.
        max_tokens: longest answer; one that reaches the model's last position ends there.
    """
    answering = model.answering(samples)
    ended = torch.zeros_like(answering.lengths, dtype=torch.bool)
    answers: list[list[int]] = [[] for _ in samples]
    for _ in range(max_tokens):
        tokens = answering.scores().argmax(-1)
        ended |= torch.isin(tokens, model.end_tokens.to(tokens.device))
        if model.limit is not None:
            ended |= answering.lengths >= model.limit
        if bool(ended.all()):
            break
        for row in (~ended).nonzero()[:, 0].tolist():
            answers[row].append(int(tokens[row]))
        answering.say(tokens, ~ended)
    return [str(model.tokenizer.decode(tokens, skip_special_tokens=True)).strip() for tokens in answers]


class Continuing:
    """Reads each token once: its keys and values are kept.

    Args:
        model: keeps a past.
        batch: prompts, padded on the right.
    """

    def __init__(self, model: Reader, batch: Batch) -> None:
        self._model = model
        self._prompts = batch
        self._past, self._hidden = read(model, batch)
        self._next: Batch | None = None
        self.lengths = batch.last + 1

    def scores(self) -> Tensor:
        """See :meth:`Answering.scores`."""
        if self._next is not None:
            self._hidden, self._next = self._model.hidden_states(self._next)[:, -1], None
        return self._model.head(self._hidden)

    def say(self, tokens: Tensor, rows: Tensor) -> None:
        """See :meth:`Answering.say`."""
        if self._next is not None:
            self.scores()
        mask = rows[:, None].long()
        self._next = following(self._prompts, tokens[:, None], mask, self._past)
        self.lengths = self.lengths + mask[:, 0]


class Rereading:
    """Reads everything again for every token.

    Args:
        model: any.
        batch: prompts, padded on the right.
    """

    def __init__(self, model: Reader, batch: Batch) -> None:
        self._model = model
        self._batch = batch

    @property
    def lengths(self) -> Tensor:
        """See :attr:`Answering.lengths`."""
        return self._batch.last + 1

    def scores(self) -> Tensor:
        """See :meth:`Answering.scores`."""
        rows = torch.arange(len(self._batch.input_ids), device=self._batch.input_ids.device)
        return self._model.head(self._model.hidden_states(self._batch)[rows, self._batch.last])

    def say(self, tokens: Tensor, rows: Tensor) -> None:
        """See :meth:`Answering.say`."""
        self._batch = appended(self._batch, tokens, rows)
