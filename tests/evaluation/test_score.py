"""Scoring by likelihood against the plain definition, one option and one sample at a time."""

import dataclasses

import pytest
import torch

from fedmosaic.data.sample import Sample
from fedmosaic.evaluation.score import indistinguishable_options, likeliest_options, score_samples
from fedmosaic.models import load_base_model
from fedmosaic.models.base import IGNORED


class NoImages:
    """The samples here are text alone."""

    collection = "none"

    def keys(self):
        return []

    def digest(self, key):
        raise AssertionError(key)

    load = digest


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_base_model("tiny-llama", images=NoImages(), home=tmp_path_factory.mktemp("scores"))


def question(number, text, answer, options):
    listed = f" options : {' '.join(options)}" if options else ""
    return Sample(f"q{number}", (), f"{text}{listed} answer :", answer, options)


CHOICES = [
    question(0, "this is a fruit . what do people do with it ?", "eat", ("eat", "ride", "wear")),
    question(1, "words : bird tool . are both of the same kind ?", "no", ("yes", "no")),
    question(2, "is the number 4 even or odd ?", "even", ("even", "odd")),
    question(3, "what is this ?", "red bird", ("red bird", "red fish", "bird", "red")),  # options of several tokens
    question(4, "words : tool tool tool bird . which is the odd one out ?", "fourth", ("first", "third", "fourth")),
]
OPEN = [question(5, "name two things .", "red bird", None), question(6, "say something .", "tool", None)]


def total_log_likelihood(model, sample, option):
    batch = model.collate([dataclasses.replace(sample, answer=option)])
    tokens = int((batch.labels[:, 1:] != IGNORED).sum())
    return -float(model.loss(batch)) * tokens


@torch.no_grad()
def test_the_choice_is_the_option_of_highest_total_likelihood(model):
    chosen = likeliest_options(model, CHOICES)
    for sample, choice in zip(CHOICES, chosen, strict=True):
        assert choice == (max(sample.options, key=lambda option: total_log_likelihood(model, sample, option)),)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_scores_do_not_depend_on_the_batch_and_stand_in_the_samples_order(model, batch_size):
    mixed = [OPEN[0], *CHOICES, OPEN[1]]
    scores = score_samples(model, mixed, batch_size=batch_size).scores
    alone = [score_samples(model, [sample], batch_size=1).scores[0] for sample in mixed]
    assert list(scores) == pytest.approx(alone)
    with torch.inference_mode():
        assert list(scores[1:-1]) == [
            float(choice == (sample.answer,))
            for choice, sample in zip(likeliest_options(model, CHOICES), CHOICES, strict=True)
        ]


def test_open_answers_are_as_long_as_allowed(model, monkeypatch):
    asked = []
    monkeypatch.setattr(model, "answer", lambda batch, max_tokens: asked.append(max_tokens) or [""] * len(batch))
    score_samples(model, OPEN, batch_size=8, open_metric="rouge-l", answer_tokens=128)
    assert asked == [128]


@pytest.mark.parametrize("batch_size", [1, 64])
def test_options_that_the_tokenizer_writes_alike_score_as_a_guess_wherever_the_answer_stands(model, batch_size):
    alike = [
        question(7, "which word is it ?", answer, options)
        for answer in ("Polish", "polish", "zzz")
        for options in (("Polish", "polish", "zzz"), ("zzz", "polish", "Polish"))  # three unknown words
    ]
    known = [question(8, "is it one ?", answer, ("Bird", "bird", "fish bird fish")) for answer in ("Bird", "bird")]
    assert score_samples(model, alike, batch_size=batch_size).scores == pytest.approx([1 / 3] * 6)
    one, other = score_samples(model, known, batch_size=batch_size).scores
    assert one == other
    assert one in (0.0, 0.5)
    assert indistinguishable_options(model, [*CHOICES, *OPEN]) == []
    assert indistinguishable_options(model, [CHOICES[0], known[0], alike[1]]) == [
        (known[0], ("Bird", "bird")),
        (alike[1], ("zzz", "polish", "Polish")),
    ]
