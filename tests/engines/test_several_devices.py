"""Clients dealt out over several devices: who computes where, and results that are those of one device."""

import pytest
import torch
from tests.api.objects import capitals, colours, text_model
from tests.engines.scenario import outcome, written

import fedmosaic as fm
from fedmosaic.config import load_scenario, resolve
from fedmosaic.federation import RunFolder, client_app, engines
from fedmosaic.federation.dealing import devices_of_clients
from fedmosaic.federation.engines import in_process
from fedmosaic.federation.engines.in_process import local_nodes
from fedmosaic.io import load_tensors
from fedmosaic.models.residence import Residence
from fedmosaic.training.cohort import Cohort

pytestmark = pytest.mark.slow  # whole runs

MODELS = ("llama", "gemma", "llama", "llama")
UNLIKE = fm.Scenario(
    name="facts",
    probe="llama",
    clients=[{"id": i, "model": model, "tasks": [("capitals", "colours")[i % 2]]} for i, model in enumerate(MODELS)],
)


def finished(out, device, method="fedmosaic", **settings):
    return fm.run(
        UNLIKE,
        method=method,
        rounds=2,
        device=device,
        out=out,
        training={"steps": 2, "batch_size": 2},
        adapter={"rank": 4, "alignment": "none", "dropout": 0.0},
        tasks=[capitals(), colours()],
        models={"llama": text_model(), "gemma": text_model("gemma", 1)},
        **settings,
    )


def states(run):
    """The clients' tensors by file."""
    return {
        path.name + path.parent.name: load_tensors(path) for path in run.path.glob("clients/client-*/*.safetensors")
    }


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", "cpu cpu cpu cpu"),
        ("a,b", "a b a b"),  # llama llama | llama gemma
        ("a, b,c", "a c a b"),
        ("a,b,c,d,e", "a d b c"),
    ],
)
def test_clients_of_one_model_are_dealt_out_next_to_each_other(device, expected):
    assert devices_of_clients(resolve(UNLIKE, device=device)) == expected.split()


def test_two_devices_give_the_results_of_one(tmp_path, monkeypatch):
    """Each has its own base models; a run that is opened again computes on the first."""
    made = []

    class Runtime(client_app.ClientRuntime):
        def __init__(self, assets, *arguments, **options):
            super().__init__(assets, *arguments, **options)
            made.append(self)

    monkeypatch.setattr(client_app, "ClientRuntime", Runtime)
    one, two = (finished(tmp_path / name, device) for name, device in {"one": "cpu", "two": "cpu:0,cpu:1"}.items())
    assert [each.assets.device for each in made] == ["cpu", "cpu:0", "cpu:1"]
    assert [sorted(each.assets.pool._models) for each in made[1:]] == [["llama"], ["gemma", "llama"]]
    assert two.settings.device == "cpu:0,cpu:1"
    assert "device" not in local_nodes(one.settings, RunFolder(one.path))[0]  # a run on one device is what it was
    assert one.results.self_ == two.results.self_
    expected, found = states(one), states(two)
    assert expected.keys() == found.keys() and expected
    for name, tensors in expected.items():
        assert all((tensor == found[name][key]).all() for key, tensor in tensors.items()), name


def examples(run):
    """What clients answered before and after."""
    found = [path.read_text() for path in sorted(run.path.glob("clients/client-*/examples.json"))]
    assert len(found) == len(MODELS)
    return found


def test_each_device_has_a_cohort_and_results_are_those_of_one(tmp_path, monkeypatch):
    runs, real = [], Cohort.run

    def run(self, works, **options):
        runs.append((self._device, len(works)))
        return real(self, works, **options)

    monkeypatch.setattr(Cohort, "run", run)
    monkeypatch.setattr(in_process, "_SCORES", True)
    together = finished(tmp_path / "two", "cpu:0,cpu:1", settings={"cohort": 4})
    of_a_round = [("cpu:0", 2), ("cpu:1", 2)]
    assert runs == of_a_round * 4  # scores before, two rounds, the last exchange
    alone = finished(tmp_path / "one", "cpu")
    assert together.results.self_ == alone.results.self_
    assert examples(together) == examples(alone)
    expected, found = states(alone), states(together)
    assert expected.keys() == found.keys() and expected
    for name, tensors in expected.items():
        for key, tensor in tensors.items():
            torch.testing.assert_close(found[name][key], tensor, atol=3e-5, rtol=1e-5)


def test_idle_base_models_wait_elsewhere(tmp_path, monkeypatch):
    """At most a client's own model and its probe are on the device at once, from the first check to the last score."""
    real, there = Residence.enter, []

    def enter(self, model):
        real(self, model)
        there.append({id(each.module) for each in self._there})

    monkeypatch.setattr(Residence, "enter", enter)
    kept, moved = (
        finished(tmp_path / str(offload), "cpu", settings={"model.offload": offload}) for offload in (False, True)
    )
    assert len(set().union(*there)) >= 3 and max(map(len, there)) == 2
    expected, found = states(kept), states(moved)
    for name, tensors in expected.items():
        assert all((tensor == found[name][key]).all() for key, tensor in tensors.items()), name


def test_worker_processes_compute_where_their_clients_do(tmp_path):
    scenario = load_scenario(str(written(tmp_path)))
    for engine, device in {"in-process": "cpu", "simulation": "cpu:0,cpu:1"}.items():
        settings = resolve(scenario, engine=engine, device=device)
        engines.run(settings, RunFolder.create(tmp_path / engine, settings))
    assert outcome(tmp_path / "simulation") == outcome(tmp_path / "in-process")


@pytest.mark.parametrize("device", ["cpu,auto", "cpu:0,cpu:0", "cpu,", "cpu,tpu"])
def test_lists_that_cannot_be_are_one_line(device):
    with pytest.raises(fm.SettingsError, match=r"device=.*(auto|twice|tpu)") as caught:
        fm.run(
            UNLIKE, device=device, tasks=[capitals(), colours()], models={"llama": text_model(), "gemma": text_model()}
        )
    assert "\n" not in str(caught.value)
