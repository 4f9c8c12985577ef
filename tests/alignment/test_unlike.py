"""Families whose linears are named or fused differently: what they share is aligned, the rest is left alone."""

import pytest
import torch
from tests.text_only import make_models

from fedmosaic import events
from fedmosaic.alignment import Alignment, align
from fedmosaic.alignment.align import NoSharedModulesError
from fedmosaic.alignment.result import RECORD
from fedmosaic.data.images import GivenImages
from fedmosaic.data.mosaic40.public import public_texts
from fedmosaic.federation import alignment as alignment_of_runs
from fedmosaic.federation.alignment import alignment_for
from fedmosaic.models import load_base_model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    names = ("llama", "gemma", "phi", "neox")
    make_models(folder, *names)
    return {name: load_base_model(str(folder / name), images=GivenImages(()), home=folder) for name in names}


def aligned(models, *names, mode="joint"):
    return align({name: models[name] for name in names}, public_texts(40, seed=0), rank=4, blocks=2, mode=mode)


def modules(alignment, name):
    return {key.split(".")[2] for key in alignment.bases[name]}


@pytest.fixture(scope="module")
def three(models):
    return aligned(models, "llama", "gemma", "phi")


@pytest.mark.slow
def test_shared_modules_are_aligned_between_those_that_have_them(models, three):
    common, split = {"o_proj", "down_proj"}, {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
    assert modules(three, "llama") == modules(three, "gemma") == common | split
    assert modules(three, "phi") == common | {"qkv_proj", "gate_up_proj"}
    assert {name.split(".")[2] for name in three.correlations} == common | split
    pair = aligned(models, "llama", "gemma")
    for key, basis in pair.bases["llama"].items():
        # What the third does not have is chosen as if it were not there; what it has is chosen with it.
        assert torch.equal(three.bases["llama"][key], basis) == (key.split(".")[2] in split), key


@pytest.mark.slow
def test_a_module_of_one_family_only_has_orthonormal_random_bases(three):
    for key, basis in three.bases["phi"].items():
        if "qkv" in key or "gate_up" in key:
            gram = basis @ basis.T if key.endswith("A") else basis.T @ basis
            torch.testing.assert_close(gram, torch.eye(4), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_unlike_bases_are_saved_and_loaded(three, tmp_path):
    three.save(tmp_path)
    loaded = Alignment.load(tmp_path)
    assert loaded.identity == three.identity
    for name, basis in three.bases.items():
        assert loaded.bases[name].keys() == basis.keys()
        assert all(torch.equal(loaded.bases[name][key], tensor) for key, tensor in basis.items())


def test_a_like_familys_record_does_not_list_its_modules_twice(models, tmp_path):
    aligned(models, "llama", "gemma", mode="a").save(tmp_path)
    assert '"modules": {}' in (tmp_path / RECORD).read_text()


def test_families_without_common_modules_run_without_bases_and_are_told(models, tmp_path, monkeypatch):
    with pytest.raises(NoSharedModulesError, match=r"llama has down_proj, .*neox has .*query_key_value"):
        aligned(models, "llama", "neox")
    monkeypatch.setattr(alignment_of_runs, "SAMPLES", 20)
    paths = [models[name].name for name in ("llama", "neox")]
    told = []
    with events.listening(lambda event: told.append(getattr(event, "text", ""))):
        by_path = {models[name].name: models[name].architecture for name in ("llama", "neox")}
        assert alignment_for(paths, by_path.__getitem__, home=tmp_path, rank=4, blocks=2) is None
    assert "each learns from its own architecture only" in told[-1]
