"""How likely a model finds the options of multiple-choice questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.models.base import BaseModel


@runtime_checkable
class Experts(Protocol):
    """Models that answer together: :class:`fedmosaic.models.product_of_experts.ProductOfExperts`."""

    inner: BaseModel
    second: BaseModel

    def weigh(self, samples: Sequence[Sample], /) -> Tensor:
        """Return how much the second one's log-likelihoods count in each sample, (B,).

        Args:
            samples: B of them.
        """
        ...


def log_likelihoods(model: BaseModel, samples: Sequence[Sample]) -> list[Tensor]:
    """Return each sample's (options,) total log-likelihoods as its answer (nats).

    One pass scores the first answer token of all options; only samples with an option of several tokens need more.
    A first token that names its option stands for the whole of it.

    Args:
        model: in evaluation mode; experts' log-likelihoods are summed with their weights.
        samples: at least one, each with options.
    """
    if isinstance(model, Experts):
        first, second = (log_likelihoods(each, samples) for each in (model.inner, model.second))
        weights = model.weigh(samples).tolist()
        return [one + weight * two for one, two, weight in zip(first, second, weights, strict=True)]
    tokens_of = option_tokens(model, samples)
    batch = model.collate(samples, with_answers=False)
    last = batch.attention_mask.sum(1) - 1
    hidden = model.hidden_states(batch)
    first_token = torch.log_softmax(model.head(hidden[torch.arange(len(samples)), last]).float(), dim=-1)
    likelihoods: list[Tensor] = []
    undecided: list[int] = []
    for row, sample in enumerate(samples):
        tokens = [tokens_of[option][0] for option in sample.options or ()]
        likelihoods.append(first_token[row, [ids[0] for ids in tokens]].cpu())
        if not _decided_by_first_token(tokens):
            undecided.append(row)
    whole = _of_whole_options(model, [samples[row] for row in undecided], batch_size=len(samples))
    for row, likelihood in zip(undecided, whole, strict=True):
        likelihoods[row] = likelihood
    return likelihoods


def option_tokens(model: BaseModel, samples: Sequence[Sample]) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Return the token ids of each option, in the vocabulary of the model, or of each expert.

    Args:
        model: gives the tokenizers.
        samples: any; those without options are left out.

    Returns:
        By option; options with equal ones are indistinguishable to the model.
    """
    experts = (model.inner, model.second) if isinstance(model, Experts) else (model,)
    texts = sorted({option for sample in samples for option in sample.options or ()})
    return {text: tuple(tuple(each.answer_tokens(text)) for each in experts) for text in texts}


def _decided_by_first_token(tokens: Sequence[Sequence[int]]) -> bool:
    """Whether each option is one token (and the end mark), and no two are the same: then the first token names it."""
    return all(len(ids) <= 2 for ids in tokens) and len({ids[0] for ids in tokens}) == len(tokens)


def _of_whole_options(model: BaseModel, samples: Sequence[Sample], *, batch_size: int) -> list[Tensor]:
    """For each sample the (options,) log-likelihoods of its whole options, end token included."""
    variants = [dataclasses.replace(sample, answer=option) for sample in samples for option in sample.options or ()]
    parts = [torch.zeros(0)]
    for start in range(0, len(variants), batch_size):
        some = variants[start : start + batch_size]
        answers = model.answer_logits(model.collate(some))
        token = torch.log_softmax(answers.logits.float(), dim=-1).gather(1, answers.targets[:, None])[:, 0]
        parts.append(token.new_zeros(len(some)).index_add_(0, answers.rows, token).cpu())
    return list(torch.split(torch.cat(parts), [len(sample.options or ()) for sample in samples]))
