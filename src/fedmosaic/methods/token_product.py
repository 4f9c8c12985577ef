"""Open answers of two models token by token: at every step the product of what both predict, in the first one's tokens.

    log p(t | x, y) = log p_1(t | x, y) + w(x) log p_2(t | x, y) + const        t a token, y what was said before it

The second model reads y, a text, in tokens of its own, and its prediction is translated: to a token its counterpart's
probability (:func:`fedmosaic.training.token_alignment.matching_tokens`), which several tokens of one counterpart share,
and to those without one equal shares of what is left. Translated probabilities sum to 1. Where y ends within a word
that the second model cannot read, the first one decides alone. With equal vocabularies this is the exact product, as in
proxy-tuning (Liu et al., COLM 2024).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.errors import ModelError
from fedmosaic.models import BaseModel, Batch
from fedmosaic.models.product_of_experts import ProductOfExperts, Weigh, says_something
from fedmosaic.training.token_alignment import matching_tokens, vocabulary_size


class TokenProduct(ProductOfExperts):
    """As a product of experts over whole answers, but open answers are generated together.

    Args:
        first: its tokens are generated.
        second: its log-probabilities count w times.
        weigh: gives w >= 0 of each sample, (B,), by its prompt.
    """

    def __init__(self, first: BaseModel, second: BaseModel, weigh: Weigh) -> None:
        super().__init__(first, second, weigh)
        self._translation = Translation(second, first)

    @torch.no_grad()
    def answer(self, samples: Sequence[Sample], *, max_tokens: int = 8) -> list[str]:
        """Return the greedy answer of both models together to each prompt.

        Args:
            samples: their answers are not used.
            max_tokens: longest answer, in the first model's tokens.
        """
        self._weights = self.weigh(samples)
        return BaseModel.answer(self, samples, max_tokens=max_tokens)

    def next_token_scores(self, batch: Batch, samples: Sequence[Sample], said: Sequence[Sequence[int]]) -> Tensor:
        """Sum both models' log-probabilities. See :meth:`BaseModel.next_token_scores`."""
        own = torch.log_softmax(self.inner.next_token_scores(batch, samples, said).float(), -1)
        texts = [str(self.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip() for tokens in said]
        for rows in ([i for i, text in enumerate(texts) if not text], [i for i, text in enumerate(texts) if text]):
            readable = [row for row in rows if self._reads(texts[row])]
            found = self._second([samples[row] for row in readable], [texts[row] for row in readable])
            if found is not None:
                opinion = self._translation(found).clamp(min=torch.finfo(torch.float32).tiny).log()
                own[readable] += self._weights[readable, None].to(own) * opinion.to(own)
        return own

    def _reads(self, text: str) -> bool:
        """Whether the second model's tokens of a text spell it."""
        if not text:
            return True
        if not says_something(text):
            return False
        spelled = str(self.second.tokenizer.decode(self.second.answer_tokens(text)[:-1], skip_special_tokens=True))
        return "".join(spelled.split()) == "".join(text.split())

    def _second(self, samples: Sequence[Sample], texts: Sequence[str]) -> Tensor | None:
        """Return the second model's (B, V) probabilities after texts, all empty or none; None if one is too long."""
        if not texts:
            return None
        began = bool(texts[0])
        asked = [
            dataclasses.replace(sample, answer=text or sample.answer, options=None)
            for sample, text in zip(samples, texts, strict=True)
        ]
        try:
            batch = self.second.collate(asked, with_answers=began)
        except ModelError:
            return None
        places = batch.last - 1 if began else batch.last  # an answer in a batch has its end token
        hidden = self.second.hidden_states(batch)[torch.arange(len(samples)), places]
        return torch.softmax(self.second.head(hidden).float(), -1)


class Translation:
    """From the probabilities of one model's tokens to those of another's.

    Args:
        source: the model that predicts.
        target: into whose tokens.
    """

    def __init__(self, source: BaseModel, target: BaseModel) -> None:
        width, ends = vocabulary_size(source), source.end_tokens.tolist()
        index = torch.full((vocabulary_size(target),), width + 1)  # without a counterpart
        for token, counterpart in matching_tokens(target.tokenizer, source.tokenizer).items():
            if token < len(index) and counterpart < width:
                index[token] = counterpart
        index[target.end_tokens] = width  # ending, by whatever token
        self._ends, self._width, self._index = ends, width, index
        self._share = 1 / torch.bincount(index, minlength=width + 2)[index]

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Return the probabilities of the target's tokens.

        Args:
            probabilities: (B, V) of the source's.

        Returns:
            (B, V') on the CPU.
        """
        found = probabilities.cpu()
        end = found[:, self._ends].sum(1, keepdim=True)
        matched = torch.zeros(self._width, dtype=torch.bool)
        matched[self._index[self._index < self._width]] = True
        matched[self._ends] = False  # counted as ending
        left = (1 - end - found[:, matched].sum(1, keepdim=True)).clamp(min=0)
        known = torch.where(matched, found, 0.0)
        return torch.cat([known, end, left], 1)[:, self._index] * self._share


OPEN_ANSWERS: dict[str, type[ProductOfExperts]] = {"proposals": ProductOfExperts, "tokens": TokenProduct}
"""Ways of answering open questions with two models."""
