"""What a run reads: opened when it is needed, given as objects, and shared where two runs read the same."""

import dataclasses

import pytest
import torch
from tests.methods.lab import Lab, NumbersBenchmark, NumbersModel, make_samples

from fedmosaic.federation import Assets
from fedmosaic.federation import assets as assets_module
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.participant import Participant
from fedmosaic.methods.base import Aggregation
from fedmosaic.models import Batch


@pytest.fixture
def settings():
    return Lab("fedmosaic", {"sketch_size": 32}).settings


def test_nothing_is_opened_before_it_is_asked_for(settings, monkeypatch):
    monkeypatch.setattr(assets_module, "load_benchmark", lambda *_, **__: pytest.fail("nobody has asked for data"))
    assets = Assets(settings)
    assert assets.method.name == "fedmosaic"
    assert assets.method.resources is assets
    assert set(assets.schedule) == {1, 2, 3, 4}


def test_a_given_benchmark_and_given_models_are_used_as_they_are(settings):
    benchmark, model = NumbersBenchmark(), NumbersModel("narrow")
    assets = Assets(settings, benchmark=benchmark, models={"narrow": model})
    assert assets.benchmark is benchmark
    assert assets.pool.model("narrow") is model
    client = Participant(assets, AdapterFactory(assets), 0).client(1)
    assert client.base is model
    assert model.adapter is client.adapter


def test_the_probe_of_a_given_model_has_its_weights_and_no_adapter(settings):
    model = NumbersModel("narrow")
    assets = Assets(settings, benchmark=NumbersBenchmark(), models={"narrow": model})
    batch = model.collate(make_samples(1, 3))
    before = model.hidden_states(batch)
    client = Participant(assets, AdapterFactory(assets), 0).client(1)
    for slot in ("local", "personal_global"):
        noise = {name: torch.ones_like(tensor) for name, tensor in client.snapshot(slot).items()}
        client.adapter.load_slot(slot, noise)
    adapted = model.hidden_states(batch)
    probe = assets.pool.probe("narrow")
    assert torch.equal(probe.hidden_states(batch), before)
    assert torch.equal(model.hidden_states(batch), adapted)  # which is where it was
    assert not torch.equal(adapted, before)
    with torch.no_grad():
        next(probe.module.parameters()).add_(1.0)
    assert torch.equal(model.hidden_states(batch), adapted)


def test_other_settings_share_data_and_models_and_take_turns_with_the_adapters(settings):
    assets = Assets(settings, benchmark=NumbersBenchmark(), models={"narrow": NumbersModel("narrow")})
    longer = assets.with_settings(settings.model_copy(update={"rounds": 7}))
    assert longer.pool is assets.pool
    assert longer.benchmark is assets.benchmark
    assert longer.method is not assets.method
    assert (len(assets.schedule), len(longer.schedule)) == (4, 7)
    spec = settings.scenario.client(0)
    first, second = AdapterFactory(assets), AdapterFactory(longer)
    start = first.start(spec)
    first.detach()
    again = second.start(spec)
    assert assets.pool.model("narrow").adapter is second.adapter(spec)
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in start.tensors().items())


def test_a_method_belongs_to_one_run(settings):
    lab = Lab("sft")
    with pytest.raises(ValueError, match="'sft' was prepared before"):
        lab.method.prepare(lab.assets())
    kind = type(lab.method)
    with pytest.raises(ValueError, match="'sft' knows nothing of a run"):
        _ = kind(kind.Settings()).resources


def test_downloads_join_an_answer_without_changing_it():
    answer = Aggregation({0: {"a": torch.ones(1)}}, state={"kept": torch.zeros(1)})
    more = answer.with_downloads({3: {"a": torch.zeros(1)}})
    assert list(answer.downloads) == [0]
    assert set(more.downloads) == {0, 3}
    assert more.state is answer.state


def test_a_batchs_slot_weights_go_wherever_the_batch_goes_and_count_instead_of_the_mix():
    client = Lab("ditto").client(0)
    for seed, slot in enumerate(("shared", "personal")):
        client.adapter.load_slot(slot, Lab("ditto").noise(client, slot, seed))
    plain = client.base.collate(make_samples(5, 3))
    weighed = dataclasses.replace(
        plain, slot_weights={"shared": torch.tensor([1.0, 0.0, 0.5]), "personal": torch.zeros(3)}
    )
    assert isinstance(weighed.to("cpu"), Batch)
    assert torch.equal(weighed.to("cpu").slot_weights["shared"], weighed.slot_weights["shared"])
    assert weighed.to("meta").slot_weights["shared"].is_meta
    with torch.no_grad():
        found = client.base.hidden_states(weighed)
        for row, share in enumerate((1.0, 0.0, 0.5)):
            with client.adapter.mixed({"shared": share}):
                torch.testing.assert_close(found[row], client.base.hidden_states(plain)[row], atol=1e-5, rtol=1e-5)
        client.adapter.mix("personal")
        assert not torch.allclose(client.base.hidden_states(plain), found)
