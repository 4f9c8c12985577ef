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
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.errors import ModelError
from fedmosaic.models import BaseModel
from fedmosaic.models.generation import Said
from fedmosaic.models.past_check import can_read_on
from fedmosaic.models.product_of_experts import ProductOfExperts, Weigh, says_something
from fedmosaic.models.prompts import Prompts
from fedmosaic.models.reader import Answering
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
        return BaseModel.answer(self, samples, max_tokens=max_tokens)

    def tell(self, sample: Sample, *, max_tokens: int) -> Iterator[Said]:
        """Yield the answer of both models together, token by token. See :meth:`BaseModel.tell`."""
        return BaseModel.tell(self, sample, max_tokens=max_tokens)

    def answering(self, samples: Sequence[Sample]) -> Answering:
        """Return what sums both models' log-probabilities. See :meth:`BaseModel.answering`."""
        opinions = Opinions(self.second, samples)
        return _Together(self.inner.answering(samples), opinions, self._translation, self.weigh(samples), self)


class _Together:
    """Both models' answers so far.

    Args:
        own: the first model's.
        opinions: the second model's.
        translation: of these into the first one's tokens.
        weights: w, (B,).
        model: decodes the first one's tokens.
    """

    def __init__(
        self, own: Answering, opinions: Opinions, translation: Translation, weights: Tensor, model: BaseModel
    ) -> None:
        self._own = own
        self._opinions = opinions
        self._translation = translation
        self._weights = weights
        self._model = model
        self._said: list[list[int]] = [[] for _ in range(len(weights))]
        self._ended = torch.zeros(len(weights), dtype=torch.bool)

    @property
    def lengths(self) -> Tensor:
        """In the first one's tokens. See :attr:`Answering.lengths`."""
        return self._own.lengths

    def scores(self) -> Tensor:
        """See :meth:`Answering.scores`."""
        own = torch.log_softmax(self._own.scores().float(), -1)
        decode = self._model.tokenizer.decode
        texts = {
            row: str(decode(tokens, skip_special_tokens=True)).strip()
            for row, tokens in enumerate(self._said)
            if not self._ended[row]
        }
        rows, found = self._opinions.after(texts)
        if rows:
            opinion = self._translation(found).clamp(min=torch.finfo(torch.float32).tiny).log()
            own[rows] += self._weights[rows, None].to(own) * opinion.to(own)
        return own

    def say(self, tokens: Tensor, rows: Tensor) -> None:
        """See :meth:`Answering.say`."""
        self._own.say(tokens, rows)
        self._ended = ~rows.cpu()
        for row in rows.nonzero()[:, 0].tolist():
            self._said[row].append(int(tokens[row]))


class Opinions:
    """What a model would say next after texts that another one has begun.

    The prompts are read once where the model keeps a past. The texts are read anew for each opinion: a longer text may
    be other tokens from its beginning.

    Args:
        model: is asked.
        samples: their answers are not used.
    """

    def __init__(self, model: BaseModel, samples: Sequence[Sample]) -> None:
        self._model = model
        self._samples = samples
        self._prompts: Prompts | None = None
        self._fits = True
        try:
            batch = model.collate(samples, with_answers=False)
        except ModelError:
            self._fits = False
        else:
            self._prompts = Prompts(model, batch) if can_read_on(model, batch) else None

    def after(self, texts: Mapping[int, str]) -> tuple[list[int], Tensor]:
        """Return probabilities of the next token, where the model can read prompt and text.

        Args:
            texts: of some samples, by row; may be empty.

        Returns:
            n rows, and (n, V).
        """
        readable = {row: text for row, text in texts.items() if self._fits and self._reads(text)}
        hidden = self._reread(readable) if self._prompts is None else self._read_on(self._prompts, readable)
        if not hidden:
            return [], torch.empty(0)
        return list(hidden), torch.softmax(self._model.head(torch.stack([*hidden.values()])).float(), -1)

    def _read_on(self, prompts: Prompts, texts: Mapping[int, str]) -> dict[int, Tensor]:
        """Return the hidden state (d,) at the end of each text, by row; those that are too long are left out."""
        answers: dict[int, list[int]] = {}
        for row, text in texts.items():
            tokens = self._model.continuations([self._begun(row, text)])[0] if text else []  # with the end token
            if not tokens or self._model.limit is None or int(prompts.lengths[row]) + len(tokens) <= self._model.limit:
                answers[row] = tokens[:-1]
        found = {row: prompts.hidden[row] for row in answers}
        if begun := {row: tokens for row, tokens in answers.items() if tokens}:
            ends = torch.tensor([len(tokens) - 1 for tokens in begun.values()])
            states = prompts.after([*begun], [*begun.values()])[torch.arange(len(begun)), ends]
            found.update(zip(begun, states, strict=True))
        return found

    def _reread(self, texts: Mapping[int, str]) -> dict[int, Tensor]:
        """As :meth:`_read_on`, from the beginning of the prompts."""
        found: dict[int, Tensor] = {}
        for began in (False, True):
            rows = [row for row, text in texts.items() if bool(text) == began]
            if not rows:
                continue
            try:
                batch = self._model.collate([self._begun(row, texts[row]) for row in rows], with_answers=began)
            except ModelError:
                continue
            places = batch.last - 1 if began else batch.last  # an answer in a batch has its end token
            states = self._model.hidden_states(batch)[torch.arange(len(rows)), places]
            found.update(zip(rows, states, strict=True))
        return found

    def _begun(self, row: int, text: str) -> Sample:
        sample = self._samples[row]
        return dataclasses.replace(sample, answer=text or sample.answer, options=None)

    def _reads(self, text: str) -> bool:
        """Whether the model's tokens of a text spell it."""
        if not text:
            return True
        if not says_something(text):
            return False
        spelled = str(self._model.tokenizer.decode(self._model.answer_tokens(text)[:-1], skip_special_tokens=True))
        return "".join(spelled.split()) == "".join(text.split())


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


def answering_together(
    open_answers: str, own: BaseModel, proxy: BaseModel, common: BaseModel | None, weigh: Weigh
) -> ProductOfExperts:
    """Return the product of a client's own model and its proxy, and of the common proxy where it has a say.

    Args:
        open_answers: one of :data:`OPEN_ANSWERS`.
        own: its log-likelihoods count as they are, and its tokens are generated.
        proxy: as the client has trained it.
        common: as it was received; None: it does not count.
        weigh: gives the weights of both, (B, 2).
    """
    kind = OPEN_ANSWERS[open_answers]
    both = kind(own, proxy, lambda samples: weigh(samples)[:, 0])
    return both if common is None else kind(both, common, lambda samples: weigh(samples)[:, 1])
