"""The frozen basis of tower adapters: identity, principal directions of public pictures, or none."""

from dataclasses import replace

import pytest
import torch
from tests.federation.scenario import SMALL

from fedmosaic import events
from fedmosaic.config import resolve
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.federation import tower_basis
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.tower_basis import (
    aligned_site,
    features_by_picture,
    interface_inputs,
    principal_directions,
    tower_site,
)
from fedmosaic.models.interface import Interface
from fedmosaic.models.parameter_linear import LINEAR


@pytest.fixture(scope="module")
def assets():
    return Assets(resolve(SMALL, method="sft"))


def test_at_full_rank_it_is_the_identity_for_all_families(assets, tmp_path):
    sites = [tower_site(assets.pool.model(name), 256, home=tmp_path) for name in ("tiny-llama", "tiny-gemma")]
    assert all(torch.equal(site.basis, torch.eye(256)) for site in sites)
    assert sites[0].interface.tower == sites[1].interface.tower
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_below_it_is_the_same_for_all_families_and_made_once(assets, home, tmp_path, monkeypatch):
    monkeypatch.setattr(tower_basis, "SAMPLES", 24)
    for folder in ("data", "features"):
        (home / folder).mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(home / folder)
    first = tower_site(assets.pool.model("tiny-llama"), 16, home=tmp_path).basis
    monkeypatch.setattr(tower_basis, "models_and_public_samples", None)  # from now on there is nothing to make
    again = tower_site(assets.pool.model("tiny-gemma"), 16, home=tmp_path).basis
    assert torch.equal(first, again)
    torch.testing.assert_close(first @ first.t(), torch.eye(16), atol=1e-5, rtol=0)
    more = tower_site(assets.pool.model("tiny-gemma"), 40, home=tmp_path).basis
    assert torch.equal(more[:16], first)


def test_the_directions_are_those_of_the_largest_variance():
    draw = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(5, 5, generator=draw, dtype=torch.float64)).Q
    rows = 3 + torch.randn(4000, 5, generator=draw, dtype=torch.float64) * torch.tensor([9.0, 5, 3, 1, 0.1]) @ axes
    found = principal_directions(rows).double()
    torch.testing.assert_close((found @ axes.t()).abs(), torch.eye(5, dtype=torch.float64), atol=0.05, rtol=0)
    assert (found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all()


def test_what_the_projector_reads_are_the_towers_features(assets):
    model, samples = assets.pool.model("tiny-llama"), assets.benchmark.task("trend@lines").train[:3]
    found = interface_inputs(model, model.interface, list(samples))
    torch.testing.assert_close(found.float(), model.collate(samples).vision["features"].reshape(-1, 256))


def test_a_rank_above_the_features_is_refused_and_text_models_have_none(assets, tmp_path, monkeypatch):
    model = assets.pool.model("tiny-llama")
    with pytest.raises(SettingsError, match=r"adapter\.tower_rank=257.*set 256 or less"):
        tower_site(model, 257, home=tmp_path)
    assert tower_site(model, 0, home=tmp_path) is None
    monkeypatch.setattr(model, "reads_images", False)
    assert tower_site(model, 256, home=tmp_path) is None


class Tower:
    """A model of which nothing but its interface is asked."""

    reads_images = True

    def __init__(self, name, width):
        self.name = name
        self.interface = Interface("", "", f"tower-{name}", width, 0)


def test_unlike_towers_share_one_adapter_in_which_their_features_agree(tmp_path, monkeypatch):
    """The second tower is the first one turned, and gives four tokens where the first gives one."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(200, 6, generator=draw, dtype=torch.float64) * torch.tensor([6.0, 5, 4, 3, 2, 1])
    turn = torch.linalg.qr(torch.randn(6, 6, generator=draw, dtype=torch.float64)).Q
    of = {
        "one": [row[None] for row in features],
        "two": [(row @ turn.t()).expand(4, 6) for row in features],
    }
    samples = [Sample(str(i), (str(i),), "<image> ?", "yes") for i in range(200)]
    monkeypatch.setattr(
        tower_basis, "models_and_public_samples", lambda names, *_, **__: ({name: name for name in names}, samples)
    )
    monkeypatch.setattr(tower_basis, "features_by_picture", lambda name, _: of[name])
    models = {name: Tower(name, 6) for name in of}
    towers = {model.interface.tower: name for name, model in models.items()}
    one, two = (aligned_site(model, 3, towers, home=tmp_path) for model in models.values())
    assert one.interface.tower == two.interface.tower
    assert one.interface.tower not in towers
    torch.testing.assert_close(two.basis.double() @ turn, one.basis.double(), atol=1e-5, rtol=0)
    monkeypatch.setattr(tower_basis, "models_and_public_samples", None)  # kept
    assert torch.equal(aligned_site(models["one"], 3, towers, home=tmp_path).basis, one.basis)
    told = []
    with events.listening(told.append):
        aligned_site(models["one"], 3, towers, home=tmp_path)
        assert not told
        models["one"].interface = replace(models["one"].interface, path=f"projector.{LINEAR}")  # as Gemma 3's
        aligned_site(models["one"], 3, towers, home=tmp_path)
    assert "base model one: with adapter.align_towers its clients" in str(told[0])


def test_with_one_tower_alignment_changes_nothing(assets, tmp_path):
    model = assets.pool.model("tiny-llama")
    site = aligned_site(model, 256, {model.interface.tower: "tiny-llama"}, home=tmp_path)
    assert torch.equal(site.basis, torch.eye(256))
    assert site.interface == model.interface


def test_a_pictures_features_are_its_own_tokens(assets):
    model, samples = assets.pool.model("tiny-llama"), assets.benchmark.task("trend@lines").train[:3]
    found = features_by_picture(model, samples)
    assert [each.shape for each in found] == [(4, 256)] * 3
    torch.testing.assert_close(torch.cat(found), interface_inputs(model, model.interface, list(samples)))
