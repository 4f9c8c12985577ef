"""How likely a model finds the options of multiple-choice questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.models.base import IGNORED, BaseModel, Batch, pad_right
from fedmosaic.models.numbers import check_numbers
from fedmosaic.models.past_check import can_read_on
from fedmosaic.models.positions import check_lengths
from fedmosaic.models.prompts import Prompts


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


@torch.no_grad()
def log_likelihoods(model: BaseModel, samples: Sequence[Sample]) -> list[Tensor]:
    """Return each sample's (options,) total log-likelihoods as its answer (nats).

    One pass scores the first answer token of all options; only samples with an option of several tokens need more: the
    rest of each option, after the prompt's past. A first token that names its option stands for the whole of it.

    Args:
        model: in evaluation mode; experts' log-likelihoods are summed with their weights.
        samples: at least one, each with options.

    Raises:
        ModelError: a likelihood is NaN.
    """
    if isinstance(model, Experts):
        first, second = (log_likelihoods(each, samples) for each in (model.inner, model.second))
        weights = model.weigh(samples).tolist()
        return [one + weight * two for one, two, weight in zip(first, second, weights, strict=True)]
    firsts = _answers(model, samples)
    decided = [row for row, tokens in enumerate(firsts) if _decided_by_first_token(tokens)]
    others = [row for row in range(len(samples)) if row not in set(decided)]
    of_first = _of_first_tokens(model, [samples[row] for row in decided], [firsts[row] for row in decided])
    of_whole = _of_whole_options(model, [samples[row] for row in others], batch_size=len(samples))
    check_numbers(model.name, torch.cat([*of_first, *of_whole]))
    by_row = dict(zip([*decided, *others], [*of_first, *of_whole], strict=True))
    return [by_row[row] for row in range(len(samples))]


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


def _answers(model: BaseModel, samples: Sequence[Sample]) -> list[list[Sequence[int]]]:
    """Return the token ids of each sample's options as they follow its prompt, end token included."""
    tokens_of = option_tokens(model, samples)
    return [
        list(model.continuations(_variants([sample])))
        if sample.prompt[-1:].isspace()  # then a word may begin otherwise
        else [tokens_of[option][0] for option in sample.options or ()]
        for sample in samples
    ]


def _decided_by_first_token(tokens: Sequence[Sequence[int]]) -> bool:
    """Whether each option is one token (and the end mark), and no two are the same: then the first token names it."""
    return all(len(ids) <= 2 for ids in tokens) and len({ids[0] for ids in tokens}) == len(tokens)


def _of_first_tokens(
    model: BaseModel, samples: Sequence[Sample], options: Sequence[Sequence[Sequence[int]]]
) -> list[Tensor]:
    """For each sample the (options,) log-likelihoods of its options' first tokens."""
    if not samples:
        return []
    batch = model.collate(samples, with_answers=False)
    hidden = model.hidden_states(batch)[torch.arange(len(samples)), batch.last]
    logarithms = torch.log_softmax(model.head(hidden).float(), dim=-1)
    return [logarithms[row, [ids[0] for ids in each]].cpu() for row, each in enumerate(options)]


def _of_whole_options(model: BaseModel, samples: Sequence[Sample], *, batch_size: int) -> list[Tensor]:
    """For each sample the (options,) log-likelihoods of its whole options, end token included."""
    found: list[Tensor] = []
    for some in _groups(samples, batch_size):
        variants = _variants(some)
        batch = model.collate(some, with_answers=False)
        if can_read_on(model, batch):
            whole = _after_prompts(model, batch, some, variants, batch_size)
        else:
            whole = _with_prompts(model, variants, batch_size)
        found += torch.split(whole, [len(sample.options or ()) for sample in some])
    return found


def _groups(samples: Sequence[Sample], most: int) -> Iterator[Sequence[Sample]]:
    """Divide samples into groups with at most so many options; a single one may have more."""
    start = options = 0
    for end, sample in enumerate(samples):
        count = len(sample.options or ())
        if end > start and options + count > most:
            yield samples[start:end]
            start, options = end, 0
        options += count
    if samples:
        yield samples[start:]


def _variants(samples: Sequence[Sample]) -> list[Sample]:
    """Return each sample with each of its options as its answer."""
    return [dataclasses.replace(sample, answer=option) for sample in samples for option in sample.options or ()]


def _after_prompts(
    model: BaseModel, batch: Batch, samples: Sequence[Sample], variants: Sequence[Sample], batch_size: int
) -> Tensor:
    """Return the (variants,) log-likelihoods of whole answers; each prompt is read once for all its options."""
    rows = [row for row, sample in enumerate(samples) for _ in sample.options or ()]
    answers = model.continuations(variants)
    lengths = (batch.last + 1).tolist()
    whole = [lengths[row] + len(answer) for row, answer in zip(rows, answers, strict=True)]
    check_lengths(model.name, model.limit, [sample.id for sample in variants], whole)
    prompts = Prompts(model, batch)
    parts = []
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        parts.append(_of_answers(model, prompts, rows[part], answers[part]))
    return torch.cat(parts)


def _of_answers(model: BaseModel, prompts: Prompts, rows: Sequence[int], answers: Sequence[Sequence[int]]) -> Tensor:
    """Return the (n,) log-likelihoods of answers to prompts, end token included."""
    device = prompts.hidden.device
    before = prompts.hidden[torch.tensor(rows, device=device)][:, None]
    hidden = torch.cat([before, prompts.after(rows, [answer[:-1] for answer in answers])], 1)
    targets = pad_right(answers, IGNORED).to(device)
    inside = targets != IGNORED
    logits = model.head(hidden[:, : targets.shape[1]][inside])
    return _sums(logits, targets[inside], inside.nonzero()[:, 0], len(answers))


def _with_prompts(model: BaseModel, variants: Sequence[Sample], batch_size: int) -> Tensor:
    """Return the (variants,) log-likelihoods of whole answers; prompts are read anew for each option."""
    parts = []
    for start in range(0, len(variants), batch_size):
        some = variants[start : start + batch_size]
        answers = model.answer_logits(model.collate(some))
        parts.append(_sums(answers.logits, answers.targets, answers.rows, len(some)))
    return torch.cat(parts)


def _sums(logits: Tensor, targets: Tensor, rows: Tensor, count: int) -> Tensor:
    """Return the log-likelihoods (n,) of tokens, summed up by row, (count,), on the CPU."""
    token = torch.log_softmax(logits.float(), dim=-1).gather(1, targets[:, None])[:, 0]
    return token.new_zeros(count).index_add_(0, rows, token).cpu()
