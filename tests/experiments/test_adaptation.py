"""A newcomer's starts: from scratch without the LoRA that a client brought; merged over the clients of equal models."""

import pytest
import torch
from tests.methods.lab import Lab, NumbersBenchmark, NumbersModel, same

from fedmosaic.adapters.export import write_lora
from fedmosaic.experiments import adaptation
from fedmosaic.federation import Assets, ClientRuntime
from fedmosaic.federation.input_digests import InputDigests


@pytest.fixture
def starts(monkeypatch):
    """(base model, start) of everything that is fine-tuned, which is left out here."""
    seen = []

    def recorded(assets, adapters, spec, task, *, start, **_):
        seen.append((spec.model, start.slots["shared"]))
        return {0: {task.name: 0.5}}

    monkeypatch.setattr(adaptation, "train_locally", recorded)
    monkeypatch.setattr(InputDigests, "check", lambda self, **_: None)
    return seen


def finished(folder, *, models, start=""):
    """The runtime of a run after its first round, in which client c's weights became c + 1; client 0 had the start."""
    settings = Lab("fedavg").settings
    scenario = settings.scenario
    clients = tuple(
        scenario.clients[number].model_copy(update={"model": model, "start": "" if number else start})
        for number, model in enumerate(models)
    )
    settings = settings.model_copy(update={"scenario": scenario.model_copy(update={"clients": clients})})
    bases = {"narrow": NumbersModel("narrow"), "wide": NumbersModel("wide"), "copy": NumbersModel("narrow")}
    assets = Assets(settings, benchmark=NumbersBenchmark(), models=bases)  # the copy has the same architecture's name
    runtime = ClientRuntime(assets, folder)
    for spec in clients:
        state = runtime.adapters.start(spec)
        trained = {name: torch.full_like(each, 1.0 + spec.id) for name, each in state.slots["shared"].items()}
        for round_ in range(1, settings.rounds + 1):
            runtime.states.store(spec.id).save(round_, state.with_slots({"shared": trained}))
    return runtime


def adapted(runtime):
    adaptation.adapt(runtime, "numbers-0", rounds=runtime.assets.settings.rounds, seeds=1, steps=(0,))


def test_from_scratch_is_the_untrained_adapter_whatever_a_client_brought(tmp_path, starts):
    plain = finished(tmp_path / "plain", models=("narrow", "narrow"))
    adapter = plain.adapters.adapter(plain.assets.settings.scenario.clients[0])
    for group in adapter.named_groups().values():
        for parameter in group.values():
            torch.nn.init.constant_(parameter, 0.3)
    write_lora(adapter, tmp_path / "lora", base_model="narrow")
    brought = finished(tmp_path / "brought", models=("narrow", "narrow"), start=str(tmp_path / "lora"))
    clients = brought.assets.settings.scenario.clients
    with_it, without = (brought.adapters.start(client).slots["shared"] for client in clients)
    assert not same(with_it, without)  # the second client brings nothing
    adapted(brought)
    (_, merged), (_, scratch) = starts
    assert same(scratch, without)
    assert all(torch.equal(tensor, torch.full_like(tensor, 1.5)) for tensor in merged.values())


def test_copies_of_one_base_model_are_one_architecture(tmp_path, starts):
    adapted(finished(tmp_path, models=("narrow", "copy", "wide")))
    assert [model for model, _ in starts] == ["narrow", "narrow", "wide", "wide"]  # merged and from scratch
    for (_, merged), mean in ((starts[0], 1.5), (starts[2], 3.0)):  # of ordinary LoRA, which no others can use
        assert all(torch.equal(tensor, torch.full_like(tensor, mean)) for tensor in merged.values())
