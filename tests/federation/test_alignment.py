"""Aligned bases in runs: the same on all clients of an architecture, kept with the run, and for Co-LoRA only."""

import shutil

import pytest
import torch
from tests.federation.scenario import SMALL as FOUR

from fedmosaic import alignment as package
from fedmosaic.alignment import align
from fedmosaic.config import resolve
from fedmosaic.errors import SettingsError
from fedmosaic.federation import Assets, ClientRuntime, RunFolder, engines
from fedmosaic.federation import assets as assets_module
from fedmosaic.federation.client_node import ClientNode

pytestmark = pytest.mark.slow  # whole runs

SMALL = FOUR.model_copy(update={"clients": FOUR.clients[1:3]})  # one client of each architecture


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A joint alignment of the two models, from a few of the tasks' own samples."""
    runtime = ClientRuntime(Assets(resolve(SMALL)), tmp_path_factory.mktemp("machine"))
    models = {name: runtime.assets.pool.model(name) for name in SMALL.models}
    samples = runtime.assets.benchmark.task("trend@lines").train[:20]
    for model in models.values():
        model.prepare(samples)
    folder = tmp_path_factory.mktemp("alignment")
    align(models, samples, rank=4, blocks=2, mode=package.Joint(rounds=1)).save(folder)
    return folder


def aligned(folder, method="fedmosaic"):
    return resolve(SMALL, overrides=[f"adapter.alignment={folder}"], method=method, rounds=2)


def run(path, settings):
    folder = RunFolder.create(path, settings)
    engines.run(settings, folder)
    return folder


def scores(results):
    return {key: results.as_json()[key] for key in ("self", "others", "bytes_up", "flops")}


@pytest.fixture(scope="module")
def finished(given, tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "aligned", aligned(given))


def test_all_clients_use_the_aligned_bases_to_the_end(given, finished):
    known = package.Alignment.load(given)
    runtime = ClientRuntime(Assets(finished.settings), finished.client_folder)
    for spec in SMALL.clients:
        adapter = ClientNode(runtime, spec.id).client_after(2).adapter
        expected = known.basis(runtime.assets.pool.model(spec.model).architecture)
        shared = adapter.colora_shared()
        assert shared.keys() == expected.keys()
        assert all(torch.equal(shared[key], tensor) for key, tensor in expected.items())


def test_bases_make_a_difference_and_are_part_of_the_settings(given, finished, tmp_path):
    unaligned = resolve(SMALL, method="fedmosaic", rounds=2)
    assert unaligned.digest != finished.settings.digest
    plain = run(tmp_path / "none", unaligned)
    assert (plain.client_folder / "alignment").exists() is False
    assert scores(plain.results()) != scores(finished.results())


@pytest.mark.slow
def test_a_run_keeps_its_bases(given, finished, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(given, moved)
    folder = run(tmp_path / "run", aligned(moved))
    shutil.rmtree(moved)
    assert scores(folder.results()) == scores(finished.results())
    runtime = ClientRuntime(Assets(folder.settings), folder.client_folder)
    before, after = (
        ClientNode(each, 2).score(2, ["trend@lines"], count=0)
        for each in (ClientRuntime(Assets(finished.settings), finished.client_folder), runtime)
    )
    assert before == after


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedavg", "sft"])
def test_methods_without_co_lora_do_not_see_any_alignment(given, tmp_path, method):
    with_, without = (
        run(tmp_path / str(index), settings)
        for index, settings in enumerate((aligned(given, method), resolve(SMALL, method=method, rounds=2)))
    )
    assert scores(with_.results()) == scores(without.results())
    assert not (with_.client_folder / "alignment").exists()


def test_the_default_is_the_joint_alignment_of_the_scenarios_models(monkeypatch, tmp_path):
    asked = {}

    def record(names, architecture, **settings):
        asked.update(settings, architectures=sorted(map(architecture, names)))

    monkeypatch.setattr(assets_module, "alignment_for", record)
    scenario = SMALL.model_copy(update={"settings": {}})
    runtime = ClientRuntime(Assets(resolve(scenario)), tmp_path)
    assert runtime.adapters.alignment is None
    assert asked["mode"] == "joint"
    assert asked["architectures"] == sorted(runtime.assets.pool.model(name).architecture for name in SMALL.models)


def test_bases_of_another_shape_or_architecture_are_refused(given, tmp_path):
    settings = aligned(given)
    wider = settings.model_copy(update={"adapter": settings.adapter.model_copy(update={"rank": 8})})
    with pytest.raises(SettingsError, match="rank=4 but rank=8"):
        ClientRuntime(Assets(wider), tmp_path).adapters.adapter(SMALL.clients[0])
    other = SMALL.clients[0].model_copy(update={"model": "tiny-qwen2"})
    with pytest.raises(SettingsError, match=r"not for .*qwen2.*it was made for"):
        ClientRuntime(Assets(settings), tmp_path).adapters.adapter(other)
