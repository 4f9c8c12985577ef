"""Two models that answer together: a product of experts over whole answers, whatever their tokenizers.

    log p(a | x) = log p_1(a | x) + w(x) log p_2(a | x) + const

Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 2002. Answers are texts,
and each model reads them in its own tokens, so nothing has to be aligned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.errors import DataError
from fedmosaic.models.base import BaseModel
from fedmosaic.models.generation import Said
from fedmosaic.models.likelihoods import log_likelihoods
from fedmosaic.models.wrapper import Wrapper

Weigh = Callable[[Sequence[Sample]], Tensor]


class ProductOfExperts(Wrapper):
    """The first model with the second one's opinion of whole answers.

    Of multiple choice, options are weighed by the product (:func:`fedmosaic.models.likelihoods.log_likelihoods` asks
    for it). Of open answers both models generate one greedily, and the product decides between the two. Everything
    else (batches, hidden states, single tokens) is the first model's.

    Args:
        first: its log-likelihoods count as they are.
        second: its log-likelihoods count w times.
        weigh: gives w >= 0 of each sample, (B,), by its prompt.
    """

    def __init__(self, first: BaseModel, second: BaseModel, weigh: Weigh) -> None:
        super().__init__(first)
        self.keeps_past = first.keeps_past
        self.second = second
        self.weigh = weigh

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Let both prepare. See :meth:`BaseModel.prepare`."""
        self.inner.prepare(samples)
        self.second.prepare(samples)

    @torch.no_grad()
    def answer(self, samples: Sequence[Sample], *, max_tokens: int = 8) -> list[str]:
        """Return of both models' greedy answers to each prompt the one that both together find likelier.

        Args:
            samples: their answers are not used.
            max_tokens: longest answer, in the tokens of the model that gives it.
        """
        own, others = (model.answer(samples, max_tokens=max_tokens) for model in (self.inner, self.second))
        return self._decided(samples, own, others)

    @torch.no_grad()
    def tell(self, sample: Sample, *, max_tokens: int) -> Iterator[Said]:
        """Yield the answer as a whole: it is known when both models have given theirs. See :meth:`BaseModel.tell`.

        Args:
            sample: its answer is not used.
            max_tokens: longest answer, in the tokens of the model that gives it.
        """
        own, other = ([*model.tell(sample, max_tokens=max_tokens)][-1] for model in (self.inner, self.second))
        (text,) = self._decided([sample], [own.text], [other.text])
        yield own if text == own.text else dataclasses.replace(other, prompt_tokens=own.prompt_tokens)

    def _decided(self, samples: Sequence[Sample], own: Sequence[str], others: Sequence[str]) -> list[str]:
        """Return of two answers to each prompt the one that both models together find likelier."""
        answers = [one if says_something(one) else two for one, two in zip(own, others, strict=True)]
        differ = [row for row, two in enumerate(others) if two != answers[row] and says_something(two)]
        if differ:
            asked = [
                dataclasses.replace(samples[row], answer=own[row], options=(own[row], others[row])) for row in differ
            ]
            for row, sample, likelihoods in zip(differ, asked, log_likelihoods(self, asked), strict=True):
                assert sample.options is not None
                answers[row] = sample.options[int(likelihoods.argmax())]
        return answers


def says_something(text: str) -> bool:
    """Return whether a generated text can be an answer: it is not blank, and holds nothing that only prompts may.

    Args:
        text: as it was generated.
    """
    try:
        Sample("", (), "?", text)
    except DataError:
        return False
    return True
