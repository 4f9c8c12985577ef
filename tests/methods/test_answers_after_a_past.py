"""What clients of methods that answer in their own ways say is what they say when everything is read anew."""

import dataclasses

import pytest
import torch
from tests.methods.lab import Lab, make_samples

from fedmosaic.models.generation import Continuing, Rereading
from fedmosaic.models.likelihoods import log_likelihoods

METHODS = {
    "fedmosaic": {},
    "fedsim": {},
    "feddpa": {},
    "fedmosaic-proxy": {"open_answers": "proposals", "weight": 0.7},
    "tokens": {"open_answers": "tokens", "weight": 0.7},
    "foreign": {"open_answers": "tokens", "weight": 0.7},
}


def prepared(name):
    """A client whose slots all say something."""
    method = "fedmosaic-proxy" if name in ("tokens", "foreign") else name
    lab = Lab(method, METHODS[name], models=("foreign" if name == "foreign" else "wide", "narrow", "narrow"))
    client = lab.client(0)
    with torch.enable_grad():
        lab.train(client)
    for seed, each in enumerate(filter(None, (client, client.proxy))):
        for slot in each.adapter.shape.slots:
            each.adapter.load_slot(slot, lab.noise(each, slot, seed=seed + len(slot)))
    return lab, client


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(METHODS))
@torch.no_grad()
def test_answers_and_choices_are_those_without_a_past(name, monkeypatch):
    lab, client = prepared(name)
    samples = make_samples(8, 12)
    choices = [dataclasses.replace(each, options=(each.answer, "3 4 5", "21 2")) for each in samples]
    with lab.method.answering(client) as model:
        assert isinstance(model.answering(samples), Continuing) == (name not in ("tokens", "foreign"))
        answers, likelihoods = model.answer(samples, max_tokens=6), log_likelihoods(model, choices)
        for place in ("models.base", "models.likelihoods", "methods.token_product"):
            monkeypatch.setattr(f"fedmosaic.{place}.can_read_on", lambda *_: False)
        assert not isinstance(model.answering(samples), Continuing)
        torch.testing.assert_close(log_likelihoods(model, choices), likelihoods, rtol=1e-5, atol=1e-4)
        assert model.answer(samples, max_tokens=6) == answers
    assert len(set(answers)) > 1


@torch.no_grad()
def test_a_wrapper_that_knows_nothing_of_pasts_sees_none():
    lab, client = prepared("fedsim")

    class Plain(type(client.base)):
        keeps_past = False

    client.base.__class__ = Plain
    with lab.method.answering(client) as model:
        assert isinstance(model.answering(make_samples(1, 2)), Rereading)
