"""Answers that are told as they grow are the answers that are given whole."""

from __future__ import annotations

import pytest
import torch
from tests.methods.lab import NumbersModel, make_samples

from fedmosaic.methods.token_product import TokenProduct
from fedmosaic.models.product_of_experts import ProductOfExperts

MOST = 5


def half(samples):
    return torch.full((len(samples),), 0.5)


def models():
    one, two = NumbersModel("narrow"), NumbersModel("wide")
    return {"alone": one, "proposals": ProductOfExperts(one, two, half), "tokens": TokenProduct(one, two, half)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["alone", "proposals", "tokens"])
def test_the_last_that_is_told_is_the_answer(kind):
    model = models()[kind]
    for sample in make_samples(4, 6):
        told = list(model.tell(sample, max_tokens=MOST))
        (answer,) = model.answer([sample], max_tokens=MOST)
        *before, last = told
        assert last.text == answer
        assert last.tokens == len(answer.split())
        assert last.prompt_tokens == len(sample.prompt.split())
        assert last.finish == ("length" if last.tokens == MOST else "stop")
        if kind == "proposals":
            assert before == []
        else:
            assert [each.text for each in before] == [" ".join(answer.split()[:n]) for n in range(1, last.tokens + 1)]
            assert {each.finish for each in before} <= {""}


def test_an_answer_is_ended_by_the_model_by_its_positions_or_by_the_one_who_asks():
    model = NumbersModel("narrow")
    (sample,) = make_samples(4, 1)
    whole = list(model.tell(sample, max_tokens=MOST))[-1]
    words = whole.text.split()
    assert len(words) == MOST, "the model must go on for this test to see where it ends"
    assert list(model.tell(sample, max_tokens=2))[-1].finish == "length"
    model.limit = whole.prompt_tokens + 3
    cut = list(model.tell(sample, max_tokens=MOST))[-1]
    assert (cut.text.split(), cut.finish) == (words[:3], "length")
    model.limit = None
    end = next(place for place, word in enumerate(words) if word not in words[:place] and place)
    type(model).end_tokens, kept = property(lambda _: torch.tensor([int(words[end])])), type(model).end_tokens
    try:
        ended = list(model.tell(sample, max_tokens=MOST))[-1]
    finally:
        type(model).end_tokens = kept
    assert (ended.text.split(), ended.tokens, ended.finish) == (words[:end], end, "stop")
