"""How well a model answers a task's questions.

Multiple choice is scored by the model's choice: the option to which it gives the highest total log-likelihood as the
answer. Options of which its tokenizer makes the same tokens are indistinguishable to the model: a choice of one of k
such options counts 1 / k where the right one is among them. Open answers are generated greedily and scored by token F1
(overlap of words) or ROUGE-L, for texts of every script (:mod:`fedmosaic.evaluation.word_tokenizer` says what a word
is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedmosaic.data.sample import Sample
from fedmosaic.models import BaseModel
from fedmosaic.models.likelihoods import log_likelihoods, option_tokens
from fedmosaic.registry import METRICS


@dataclass(frozen=True)
class TaskScore:
    """Scores of single samples.

    Attributes:
        scores: from 0 to 1 each.
    """

    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Accuracy of multiple choice, mean F1 of open answers."""
        return sum(self.scores) / len(self.scores)


def score_samples(
    model: BaseModel, samples: Sequence[Sample], *, batch_size: int, open_metric: str = "f1", answer_tokens: int = 6
) -> TaskScore:
    """Score each sample.

    Args:
        model: in evaluation mode, with the slot weights that it answers with.
        samples: all multiple choice or open, in any mixture.
        batch_size: samples that go through the model at once.
        open_metric: name of a metric (:mod:`fedmosaic.evaluation.metrics`), for open answers.
        answer_tokens: longest generated open answer.

    Returns:
        The scores, in the order of the samples.
    """
    overlap = METRICS.load(open_metric)().score
    scores = [0.0] * len(samples)
    # Samples of like length share a batch: less padding.
    order = sorted(range(len(samples)), key=lambda i: (len(samples[i].images), len(samples[i].prompt)))
    with torch.inference_mode():
        for kind in (False, True):
            chosen = [i for i in order if (samples[i].options is None) == kind]
            for start in range(0, len(chosen), batch_size):
                rows = chosen[start : start + batch_size]
                batch = [samples[i] for i in rows]
                if kind:
                    answers = model.answer(batch, max_tokens=answer_tokens)
                    found = [overlap(answer, sample.answer) for answer, sample in zip(answers, batch, strict=True)]
                else:
                    found = choice_scores(model, batch)
                for i, score in zip(rows, found, strict=True):
                    scores[i] = score
    return TaskScore(tuple(scores))


def choice_scores(model: BaseModel, samples: Sequence[Sample]) -> list[float]:
    """Return the probability that each sample's likeliest option is right: 0 or 1 unless options are alike.

    Args:
        model: in evaluation mode.
        samples: multiple-choice questions.

    Returns:
        From 0 to 1 for each sample.
    """
    return [
        (sample.answer in choice) / len(choice)
        for sample, choice in zip(samples, likeliest_options(model, samples), strict=True)
    ]


def likeliest_options(model: BaseModel, samples: Sequence[Sample]) -> list[tuple[str, ...]]:
    """Return each sample's most likely option, together with those that have the same tokens.

    Args:
        model: in evaluation mode.
        samples: multiple-choice questions.

    Returns:
        One or more options for each sample.
    """
    tokens_of, likelihoods = option_tokens(model, samples), log_likelihoods(model, samples)
    choices = []
    for sample, likelihood in zip(samples, likelihoods, strict=True):
        options = sample.options or ()
        best = tokens_of[options[int(likelihood.argmax())]]
        choices.append(tuple(option for option in options if tokens_of[option] == best))
    return choices


def indistinguishable_options(model: BaseModel, samples: Sequence[Sample]) -> list[tuple[Sample, tuple[str, ...]]]:
    """Return the samples with options that have the same tokens in a model's vocabulary.

    Args:
        model: gives the tokenizer.
        samples: any; those without options are left out.

    Returns:
        Samples, each with the first group of such options.
    """
    tokens_of = option_tokens(model, samples)
    found = []
    for sample in samples:
        groups: dict[object, list[str]] = {}
        for option in sample.options or ():
            groups.setdefault(tokens_of[option], []).append(option)
        if alike := next((tuple(group) for group in groups.values() if len(group) > 1), None):
            found.append((sample, alike))
    return found
