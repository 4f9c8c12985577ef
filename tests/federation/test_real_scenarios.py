"""The scenarios of real families, on small random stand-ins for the packages' weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.models.conftest import Noise
from tests.models.packaged import make_packaged

import fedmosaic as fm
from fedmosaic.config import load_scenario
from fedmosaic.models import load_base_model
from fedmosaic.models.delta import Change, Delta, weights_sha256
from fedmosaic.models.from_package import stored_weights
from fedmosaic.models.tiny import TinyModel
from fedmosaic.registry import PACKAGED

FAMILIES = {"small-smollm2": "llama", "small-gemma3": "gemma3"}


@pytest.fixture
def stand_ins(tmp_path, home, monkeypatch):
    for name, architecture in FAMILIES.items():
        (tmp_path / name).mkdir()
        made = make_packaged(architecture, tmp_path / name)
        vision, text = PACKAGED.load(name), PACKAGED.load(f"{name}-text")
        for kind in (vision, text):
            monkeypatch.setattr(kind, "package", replace(made.text.package, terms=kind.package.terms))
        monkeypatch.setattr(vision, "unused", made.vision.unused)
        monkeypatch.setattr(vision, "delta_file", classmethod(lambda cls, path=made.delta: path))
        module, _ = vision.unchanged(home)
        torch.manual_seed(0)
        sizes = module.model.multi_modal_projector.state_dict().items()
        projector = {key: (0.1 * torch.randn(tensor.shape)).half().float() for key, tensor in sizes}
        place = "layers.0.self_attn.q_proj"
        change = Change.rounded(torch.randn(64, 2), torch.randn(2, 64))
        delta = Delta({place: change}, projector, made.text.package.sha256)
        result = weights_sha256(stored_weights(vision.changed(delta, home)[0], torch.float16))
        Delta(delta.changes, delta.projector, delta.package, result).save(made.delta)


def short_run(method, folder):
    quick = {"training": {"steps": 2, "batch_size": 2}, "adapter": {"rank": 4}}
    return fm.run("real-small", method=method, rounds=1, out=folder / "run", **quick)


def test_real_families_have_the_tasks_of_the_others():
    real, other = load_scenario("mosaic40-real"), load_scenario("mosaic40")
    assert [client.tasks for client in real.clients] == [client.tasks for client in other.clients]
    assert sorted(client.model for client in real.clients) == sorted([*FAMILIES] * 5)
    small = load_scenario("real-small")
    assert sorted(client.model for client in small.clients) == sorted([*FAMILIES] * 2)
    text, words = load_scenario("words12-real"), load_scenario("words12")
    assert [client.tasks for client in text.clients] == [client.tasks for client in words.clients]
    assert sorted(client.model for client in text.clients) == sorted(f"{name}-text" for name in [*FAMILIES] * 4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedavg", "fedmosaic"])
def test_real_small_runs(stand_ins, tmp_path, method):
    run = short_run(method, tmp_path)
    tasks = {task for client in run.settings.scenario.clients for task in client.tasks}
    assert run.done
    assert all(set(scores) == tasks for scores in run.scores.values())
    assert all(0 <= score <= 1 for scores in run.scores.values() for each in scores.values() for score in each)


@pytest.mark.slow
def test_its_models_leave_as_checkpoints(stand_ins, home, tmp_path):
    run = short_run("sft", tmp_path)
    folder = run.clients[1].export(tmp_path / "merged", kind="merged")
    merged = load_base_model(str(folder), images=Noise(), home=home)
    before = load_base_model("small-gemma3", images=Noise(), home=home)
    assert isinstance(merged, TinyModel)
    assert (folder / "NOTICE").read_text().startswith("Gemma is provided under and subject to the Gemma Terms of Use")
    assert (folder / "GEMMA_TERMS.txt").read_bytes()
    assert "under the terms in `NOTICE` and `GEMMA_TERMS.txt`" in (folder / "README.md").read_text()
    other = run.clients[0].export(tmp_path / "other", kind="lora")
    assert not (other / "NOTICE").exists()
    changed = [
        name
        for name, weight in merged.module.state_dict().items()
        if not torch.allclose(weight, before.module.state_dict()[name], atol=1e-6)
    ]
    assert changed
    assert all("language_model.layers" in name and "_proj" in name for name in changed)
