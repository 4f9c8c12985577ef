"""Greedy answers, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.models.batch import Batch, appended, following
from fedmosaic.models.numbers import check_numbers
from fedmosaic.models.prompts import read
from fedmosaic.models.reader import Reader


@dataclass(frozen=True)
class Said:
    """How far an answer is.

    Attributes:
        text: all of it so far.
        tokens: how many were generated; the one that ends an answer is not counted.
        prompt_tokens: of what was read before it, images included.
        finish: empty while there is more to come; ``stop`` where the model has ended it; ``length`` where it was cut
            off, after the most tokens that were asked for or at the model's last position.
    """

    text: str
    tokens: int
    prompt_tokens: int
    finish: Literal["", "stop", "length"] = ""


def greedy(model: Reader, samples: Sequence[Sample], max_tokens: int) -> list[str]:
    """Return the greedy answer to each prompt.

    Args:
        model: answers.
        samples: their answers are not used.
        max_tokens: longest answer; one that reaches the model's last position ends there.
    """
    answers = _Answers(model, samples)
    for _ in range(max_tokens):
        if not answers.grow():
            break
    return [answers.text(row) for row in range(len(samples))]


@torch.no_grad()
def growing(model: Reader, sample: Sample, max_tokens: int) -> Iterator[Said]:
    """Yield the greedy answer to a prompt after each token, and once more when it is complete.

    Args:
        model: answers.
        sample: its answer is not used.
        max_tokens: longest answer; one that reaches the model's last position ends there.
    """
    answers = _Answers(model, [sample])
    prompt = int(answers.lengths[0])
    for count in range(1, max_tokens + 1):
        if not answers.grow():
            break
        yield Said(answers.text(0), count, prompt)
    yield Said(answers.text(0), len(answers.tokens[0]), prompt, "stop" if bool(answers.stopped[0]) else "length")


class _Answers:
    """Greedy answers, a token at a time.

    Args:
        model: answers.
        samples: their answers are not used.

    Attributes:
        tokens: of each answer so far.
        stopped: (B,) bool; which answers the model has ended.
    """

    def __init__(self, model: Reader, samples: Sequence[Sample]) -> None:
        self._model = model
        self._answering = model.answering(samples)
        self._ended = torch.zeros_like(self.lengths, dtype=torch.bool)
        self.tokens: list[list[int]] = [[] for _ in samples]
        self.stopped = self._ended

    @property
    def lengths(self) -> Tensor:
        """(B,) tokens of prompts and answers so far."""
        return self._answering.lengths

    def grow(self) -> bool:
        """Add a token to each answer that is not complete; False if all are."""
        scores = self._answering.scores()
        check_numbers(self._model.name, scores[~self._ended])
        tokens = scores.argmax(-1)
        self.stopped = self.stopped | torch.isin(tokens, self._model.end_tokens.to(tokens.device)) & ~self._ended
        self._ended = self._ended | self.stopped
        if self._model.limit is not None:
            self._ended = self._ended | (self.lengths >= self._model.limit)
        if bool(self._ended.all()):
            return False
        for row in (~self._ended).nonzero()[:, 0].tolist():
            self.tokens[row].append(int(tokens[row]))
        self._answering.say(tokens, ~self._ended)
        return True

    def text(self, row: int) -> str:
        """What an answer says so far.

        Args:
            row: of the batch.
        """
        return str(self._model.tokenizer.decode(self.tokens[row], skip_special_tokens=True)).strip()


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
