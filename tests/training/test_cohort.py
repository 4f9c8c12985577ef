"""Clients that train side by side end where each would have ended alone."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch
from tests.methods.lab import Lab

from fedmosaic import events
from fedmosaic.adapters.dropout import Draws, dropout
from fedmosaic.errors import DataError
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.participant import Participant
from fedmosaic.methods.registry import method_classes
from fedmosaic.training import cohort as cohorts
from fedmosaic.training.cohort import Cohort, alike
from fedmosaic.training.optimiser import SlotOptimiser

pytestmark = pytest.mark.slow  # every method

METHODS = sorted(method_classes())
OWN_LOSSES = {"feddat", "fedproto", "fedsim", "hetero-ssfl", "proxyfl"}
"""Their steps are on losses of their own, and taken one by one."""
ALONE = {*OWN_LOSSES, "fedalt"}
"""With those whose gate reads the input."""
MODELS = ("narrow", "wide", "narrow", "narrow")


class Field:
    """The clients of one method, which train rounds from the states of the last."""

    def __init__(self, lab: Lab) -> None:
        assets = lab.assets()
        self.method = assets.method
        adapters = AdapterFactory(assets)
        self.participants = [
            Participant(assets, adapters, number) for number in range(len(lab.settings.scenario.clients))
        ]
        self.states = [None] * len(self.participants)

    def work(self, number, round_):
        participant = self.participants[number]
        return participant.train(participant.client(round_, self.states[number]), {})

    def works(self, round_):
        return [partial(self.work, number, round_) for number in range(len(self.participants))]


@pytest.fixture
def together(monkeypatch):
    """The numbers of clients in steps that were taken together."""
    taken, original = [], cohorts.step_together

    def recording(wanted, *args):
        losses = original(wanted, *args)
        taken.append(len(wanted))
        return losses

    monkeypatch.setattr(cohorts, "step_together", recording)
    return taken


def side_by_side(field, rounds, cohort):
    """Train rounds, and return what they leave."""
    for round_ in range(1, rounds + 1):
        done = cohort.run(field.works(round_), raises=True)
        field.states = [each.state for each in done]
    return done


def one_by_one(field, rounds):
    """Train rounds, and return what they leave."""
    for round_ in range(1, rounds + 1):
        done = [work() for work in field.works(round_)]
        field.states = [each.state for each in done]
    return done


def assert_alike(one, other, atol=1e-5):
    for mine, yours in zip(one, other, strict=True):
        assert mine.meter.steps == yours.meter.steps and mine.meter.samples == yours.meter.samples
        assert mine.meter.flops == yours.meter.flops
        assert mine.meter.loss == pytest.approx(yours.meter.loss, abs=atol)
        left, right = mine.state.tensors(), yours.state.tensors()
        assert left.keys() == right.keys()
        for name, tensor in left.items():
            torch.testing.assert_close(
                tensor, right[name], atol=atol, rtol=1e-5, msg=lambda text, at=name: f"{at}: {text}"
            )


@pytest.mark.parametrize("name", METHODS)
def test_twenty_steps_side_by_side_are_those_alone(name, together):
    lab = Lab(name, models=MODELS, steps=10, learning_rate=3e-3)
    assert_alike(side_by_side(Field(lab), 2, Cohort(4)), one_by_one(Field(lab), 2))
    assert bool(together) == (name not in ALONE)
    if name == "fedmosaic-proxy":  # the own models of one family, and the proxies of all
        assert set(together) == {3, 4}


@pytest.mark.parametrize("gate", ["token", "sample"])
def test_gates_that_read_the_input_are_trained_one_by_one_and_it_is_said(gate, together):
    lab = Lab("fedmosaic", models=MODELS, steps=2)
    adapter = lab.settings.adapter.model_copy(update={"gate": gate})
    lab.settings = lab.settings.model_copy(update={"adapter": adapter})
    heard = []
    with events.listening(heard.append):
        found = side_by_side(Field(lab), 1, Cohort(4))
    assert_alike(found, one_by_one(Field(lab), 1), atol=0)
    notes = [each.text for each in heard if isinstance(each, events.Note)]
    assert len(notes) == 1 and "one by one" in notes[0] and gate in notes[0] and not together


def test_clients_that_change_the_base_weights_never_meet_anothers_change():
    """FLoRA merges what was received into the base: its steps are taken one by one from the second round on."""
    field = Field(Lab("flora", models=("narrow",) * 3, steps=2, learning_rate=3e-3))
    shapes = field.method.download_shapes(field.participants[0].adapter)

    def work(number):
        random = torch.Generator().manual_seed(number)
        received = {name: torch.randn(shape, generator=random) for name, shape in shapes.items() if name.endswith(".D")}
        return field.participants[number].train(field.participants[number].client(2), received)

    works = [partial(work, number) for number in range(3)]
    assert_alike(Cohort(3).run(works, raises=True), [each() for each in works], atol=0)


def test_the_same_again_bit_for_bit():
    lab = Lab("fedmosaic", models=MODELS)
    first, second = (side_by_side(Field(lab), 1, Cohort(4)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        tensors = other.state.tensors()
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in one.state.tensors().items())


def test_one_clients_error_ends_its_work_only():
    lab, broken = Lab("sft", models=MODELS, steps=4, learning_rate=3e-3), 2
    field = Field(lab)
    original = field.method.train

    def train(client, budget):
        if client.id != broken:
            original(client, budget)
            return
        for step, batch in enumerate(client.batches(budget)):
            if step == 2:
                raise DataError("a damaged picture")
            client.step(batch, slots=("local",), mix="local")

    field.method.train = train
    found = Cohort(4).run(field.works(1), raises=False)
    assert isinstance(found[broken], DataError)
    alone = one_by_one(Field(lab), 1)
    others = [number for number in range(len(MODELS)) if number != broken]
    assert_alike([found[number] for number in others], [alone[number] for number in others])
    with pytest.raises(DataError, match="damaged"):
        Cohort(4).run(field.works(1), raises=True)
    assert_alike([field.work(0, 1)], [alone[0]], atol=0)  # the common modules are back in their place


def test_a_step_that_fails_for_one_client_is_taken_alone_by_all():
    lab = Lab("sft", models=MODELS, steps=2, learning_rate=3e-3)
    field = Field(lab)
    original = field.method.train

    def train(client, budget):
        for batch in client.batches(budget):
            if client.id == 3:
                batch.inputs.input_ids[0, 0] = 999  # no such token
            client.step(batch, slots=("local",), mix="local")

    field.method.train = train
    found = Cohort(4).run(field.works(1), raises=False)
    field.method.train = original
    assert isinstance(found[3], IndexError)
    assert_alike(found[:3], one_by_one(Field(lab), 1)[:3])


def test_too_little_memory_halves_the_cohort_and_is_said(monkeypatch):
    lab, sizes, original = Lab("sft", models=("narrow",) * 4, steps=4, learning_rate=3e-3), [], cohorts.step_together

    def scarce(wanted, carrier, draws):
        sizes.append(len(wanted))
        losses = original(wanted, carrier, draws) if len(wanted) < 3 else None
        if losses is None:
            draws[0].factors((3,), 0.5, torch.zeros(3))  # what was drawn is drawn again
            raise torch.OutOfMemoryError("no memory")
        return losses

    monkeypatch.setattr(cohorts, "step_together", scarce)
    heard = []
    with events.listening(heard.append):
        found = side_by_side(Field(lab), 1, Cohort(4))
    assert sizes == [4, *[2, 2] * 4]
    notes = [each.text for each in heard if isinstance(each, events.Note)]
    assert len(notes) == 1 and "4 clients" in notes[0] and "2 at once" in notes[0]
    assert_alike(found, one_by_one(Field(lab), 1))


def test_a_step_that_fails_in_an_optimiser_is_taken_once_by_everybody(monkeypatch):
    lab, calls, original = (
        Lab("sft", models=("narrow",) * 3, steps=2, learning_rate=3e-3),
        [],
        SlotOptimiser.step_on_gradients,
    )

    def scarce(self):
        calls.append(self)
        if len(calls) == 2:  # the first client has stepped
            raise torch.OutOfMemoryError("no memory for the moments")
        original(self)

    monkeypatch.setattr(SlotOptimiser, "step_on_gradients", scarce)
    found = side_by_side(Field(lab), 1, Cohort(3))
    assert len(calls) == 3 * 2 + 1
    assert_alike(found, one_by_one(Field(lab), 1))


def test_draws_are_those_of_torchs_generator():
    x, draws = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)), Draws()
    torch.manual_seed(3)
    draws.keep()
    one, other = dropout(x, 0.3), dropout(x, 0.3)
    assert torch.equal(x * draws.factors(x.shape, 0.3, x), one)
    after = torch.get_rng_state()
    assert torch.equal(x * draws.factors(x.shape, 0.3, x), other)
    assert torch.equal(torch.get_rng_state(), after)


def test_sequences_much_shorter_than_the_longest_go_apart():
    assert list(alike([30, 10, 29, 11, 28], 0.15)) == [[0, 2, 4], [1, 3]]
    assert list(alike([30, 10, 29, 11, 28], 10)) == [[0, 1, 2, 3, 4]]
    assert list(alike([5, 4, 5], 0)) == [[0, 2], [1]]


def test_an_interrupted_round_is_repeated_to_the_same_bits(monkeypatch):
    lab, calls, original = Lab("fedmosaic", models=MODELS), 0, cohorts.step_together
    whole, threads = side_by_side(Field(lab), 1, Cohort(4)), threading.active_count()

    def interrupted(*args):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(cohorts, "step_together", interrupted)
    field, cohort = Field(lab), Cohort(4)
    with pytest.raises(KeyboardInterrupt):
        cohort.run(field.works(1), raises=False)
    assert threading.active_count() == threads
    for one, other in zip(side_by_side(field, 1, cohort), whole, strict=True):
        tensors = other.state.tensors()
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in one.state.tensors().items())
