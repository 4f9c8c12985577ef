"""Two models generate an open answer together, each in its own tokens."""

import dataclasses

import pytest
import torch
from tests.methods.lab import Lab, NumbersModel, make_samples

from fedmosaic.methods.token_product import Opinions, TokenProduct, Translation


def with_noise(lab, client):
    """Let both adapters say something."""
    client.adapter.load_slot("local", lab.noise(client, "local", seed=1))
    client.proxy.adapter.load_slot("proxy", lab.noise(client.proxy, "proxy", seed=2))
    return client


def after(model, sample, text):
    """Log-probabilities of the next number, or of the end, alone in a batch and by the numbers' own names."""
    batch = model.collate([dataclasses.replace(sample, answer=text or "3")], with_answers=bool(text))
    last = int(batch.last) - bool(text)
    scores = torch.log_softmax(model.head(model.hidden_states(batch)[0, last]).float(), -1)
    numbers = {model.tokenizer.decode([token]): float(scores[token]) for token in range(2, len(scores))}
    return numbers | {"end": float(scores[1])}


def by_hand(first, second, sample, weight, most):
    said = []
    for _ in range(most):
        text = " ".join(said)
        one, two = after(first, sample, text), after(second, sample, text)
        total = {word: one[word] + weight * two[word] for word in one if word in two}
        word = max(total, key=total.get)
        if word == "end":
            break
        said.append(word)
    return " ".join(said)


@pytest.mark.slow
@pytest.mark.parametrize(("models", "weight"), [(("narrow", "wide"), 0.8), (("foreign", "wide"), 5.0)])
@torch.no_grad()
def test_open_answers_are_those_of_the_product_at_every_token(models, weight):
    """The foreign one has all numbers of the proxy, and more, as other tokens: at this weight these are never said."""
    lab = Lab("fedmosaic-proxy", {"open_answers": "tokens", "weight": weight}, models=models)
    client, samples = with_noise(lab, lab.client(0)), make_samples(8, 12)
    with client.adapter.mixed("local"), client.proxy.adapter.mixed("proxy"):
        expected = [by_hand(client.base, client.proxy.base, sample, weight, 3) for sample in samples]
        alone = client.base.answer(samples, max_tokens=3)
    with lab.method.answering(client) as model:
        assert isinstance(model, TokenProduct)
        answers = model.answer(samples, max_tokens=3)
    assert answers == expected
    assert answers != alone


def test_translated_probabilities_sum_to_one_and_follow_the_text():
    first, second = NumbersModel("foreign"), NumbersModel("narrow")
    random = torch.Generator().manual_seed(0)
    given = torch.rand(3, 24, generator=random)
    given /= given.sum(1, keepdim=True)
    found = Translation(second, first)(given)
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    for number in range(2, 24):
        token = first.tokenizer.turned(number)
        if token < 30:
            torch.testing.assert_close(found[:, token], given[:, number])
    torch.testing.assert_close(found[:, 1], given[:, 1])
    same = Translation(second, NumbersModel("narrow"))(given)
    torch.testing.assert_close(same[:, 1:], given[:, 1:])


@torch.no_grad()
def test_with_weight_zero_or_nothing_to_read_the_first_model_answers_alone(monkeypatch):
    first, second = NumbersModel("narrow"), NumbersModel("foreign")
    samples = make_samples(3, 8)
    alone = first.answer(samples, max_tokens=3)
    assert TokenProduct(first, second, lambda asked: torch.zeros(len(asked))).answer(samples, max_tokens=3) == alone
    blind = TokenProduct(first, second, lambda asked: torch.ones(len(asked)))
    monkeypatch.setattr(Opinions, "_reads", lambda self, text: False)
    assert blind.answer(samples, max_tokens=3) == alone
