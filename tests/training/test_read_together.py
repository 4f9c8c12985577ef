"""Clients that are scored side by side answer what each answers alone."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from tests.methods.lab import Lab, NumbersModel, make_samples

from fedmosaic import events
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.participant import Participant
from fedmosaic.methods.registry import method_classes
from fedmosaic.models.likelihoods import log_likelihoods
from fedmosaic.training import cohort as cohorts
from fedmosaic.training.cohort import Cohort

METHODS = sorted(method_classes())
MODELS = ("narrow", "wide", "narrow", "narrow")


def questions(client: int):
    """As many for each client, of other lengths; some have options of one token, some of several."""
    found = []
    for index, sample in enumerate(make_samples(client, 4)):
        more = " 7 8 9"[: 2 * client] if index == 0 else ""
        options = ("3", "5", "9") if index == 1 else ("4 6", "4 8 2", "11", "5 5")
        found.append(dataclasses.replace(sample, prompt=sample.prompt + more, options=options, answer=options[0]))
    return found


class Field:
    """The clients of a method with random weights, and what they answer."""

    def __init__(self, lab: Lab) -> None:
        assets = lab.assets()
        self.method, self.lab = assets.method, lab
        adapters = AdapterFactory(assets)
        self.participants = [
            Participant(assets, adapters, number) for number in range(len(lab.settings.scenario.clients))
        ]

    def client(self, number):
        client = self.participants[number].client(1)
        for each in (client, client.proxy):
            for place, slot in enumerate(() if each is None else each.adapter.shape.slots):
                each.adapter.load_slot(slot, self.lab.noise(each, slot, seed=10 * number + place))
        return client

    def answers(self, number):
        asked = questions(number)
        with self.method.answering(self.client(number)) as model, torch.inference_mode():
            return torch.cat(log_likelihoods(model, asked)), model.answer(asked, max_tokens=5)

    def works(self):
        return [partial(self.answers, number) for number in range(len(self.participants))]

    def alone(self):
        return [work() for work in self.works()]


@pytest.fixture
def together(monkeypatch):
    """The numbers of clients in what was read together."""
    read, original = [], cohorts.read_together

    def recording(wanted, *args):
        found = original(wanted, *args)
        read.append(len(wanted))
        return found

    monkeypatch.setattr(cohorts, "read_together", recording)
    return read


def assert_alike(found, expected):
    for (mine, said), (yours, heard) in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-5, atol=1e-5)
        assert said == heard


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name == "fedmosaic-proxy" else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_likelihoods_and_answers_are_those_alone(name, together):
    field = Field(Lab(name, models=MODELS))
    alone = field.alone()
    assert len({tuple(said) for _, said in alone}) > 1  # clients differ
    assert_alike(Cohort(4).run(field.works(), raises=True), alone)
    assert bool(together) == (name != "fedalt"), together  # its gate reads the input
    assert all(torch.equal(mine, yours) for (mine, _), (yours, _) in zip(field.alone(), alone, strict=True))
    if name == "fedmosaic-proxy":  # the own models of one family, and the proxies of all
        assert set(together) == {3, 4}


@pytest.mark.slow
def test_a_cohort_can_leave_scoring_as_it_is(together):
    field = Field(Lab("fedmosaic", models=MODELS))
    found, alone = Cohort(4, reads=False).run(field.works(), raises=True), field.alone()
    assert not together
    assert all(torch.equal(mine, yours) for (mine, _), (yours, _) in zip(found, alone, strict=True))


@pytest.mark.slow
def test_too_little_memory_halves_the_cohort_and_answers_stay(monkeypatch):
    """Also where caches have grown already when memory ends."""
    field, sizes, original = Field(Lab("sft", models=("narrow",) * 4)), [], NumbersModel.decode

    def scarce(model, batch):
        hidden = original(model, batch)
        sizes.append(len(batch.input_ids))
        if sizes[-1] == 4 * len(questions(0)) and len(sizes) > 3:
            raise torch.OutOfMemoryError("no memory")
        return hidden

    alone = field.alone()
    monkeypatch.setattr(NumbersModel, "decode", scarce)
    heard = []
    with events.listening(heard.append):
        found = Cohort(4).run(field.works(), raises=True)
    assert sizes.count(16) == 2 and sizes.count(8) > 4
    notes = [each.text for each in heard if isinstance(each, events.Note)]
    assert len(notes) == 1 and "4 clients" in notes[0] and "2 at once" in notes[0]
    assert_alike(found, alone)


@pytest.mark.slow
def test_gates_that_read_the_input_are_scored_one_by_one_and_it_is_said(together):
    lab = Lab("fedmosaic", models=MODELS)
    adapter = lab.settings.adapter.model_copy(update={"gate": "token"})
    lab.settings = lab.settings.model_copy(update={"adapter": adapter})
    field, heard = Field(lab), []
    with events.listening(heard.append):
        found = Cohort(4).run(field.works(), raises=True)
    assert_alike(found, field.alone())
    notes = [each.text for each in heard if isinstance(each, events.Note)]
    assert len(notes) == 1 and "scored with narrow one by one" in notes[0] and not together
