import json

import pytest
import torch

from fedmosaic.alignment import Alignment, align
from fedmosaic.alignment import shipped as shipped_module
from fedmosaic.alignment.result import RECORD, TENSORS
from fedmosaic.config import AdapterSettings, builtin_names, load_scenario, resolve
from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.federation import alignment as alignment_of_runs
from fedmosaic.federation.alignment import alignment_for
from fedmosaic.models import load_base_model

from .conftest import Noise


@pytest.fixture(scope="module")
def alignment(models, samples):
    pair = {name: models[name] for name in ("tiny-llama", "tiny-gemma")}
    return align(pair, samples[:20], rank=8, blocks=2, mode="pivot", seed=5)


def test_a_folder_gives_back_what_was_saved(alignment, tmp_path):
    alignment.save(tmp_path / "a")
    loaded = Alignment.load(tmp_path / "a")
    assert (loaded.mode, loaded.rank, loaded.blocks, loaded.seed, loaded.samples) == ("pivot", 8, 2, 5, 20)
    assert loaded.architectures == alignment.architectures
    assert loaded.correlations.keys() == alignment.correlations.keys()
    assert loaded.mean().inputs == pytest.approx(alignment.mean().inputs, abs=1e-3)
    for name, basis in alignment.bases.items():
        for key, tensor in basis.items():
            assert torch.equal(loaded.bases[name][key], tensor)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [RECORD, TENSORS]


def test_half_precision_is_made_orthonormal_again(alignment, tmp_path):
    alignment.save(tmp_path / "half", half=True)
    loaded = Alignment.load(tmp_path / "half")
    for basis in loaded.bases.values():
        for key, tensor in basis.items():
            gram = tensor @ tensor.T if key.endswith("A") else tensor.T @ tensor
            torch.testing.assert_close(gram, torch.eye(8), atol=1e-5, rtol=0)


def test_what_was_loaded_can_be_kept_bit_by_bit(alignment, tmp_path):
    alignment.save(tmp_path / "half", half=True)
    loaded = Alignment.load(tmp_path / "half")
    loaded.save(tmp_path / "kept")
    kept = Alignment.load(tmp_path / "kept")
    assert kept.identity == loaded.identity == alignment.identity
    for name, basis in loaded.bases.items():
        assert all(torch.equal(kept.bases[name][key], tensor) for key, tensor in basis.items())


def test_another_rank_number_of_blocks_or_architecture_is_refused(alignment):
    alignment.check(rank=8, blocks=2)
    with pytest.raises(SettingsError, match=r"rank=8 but rank=16.*adapter.rank=8"):
        alignment.check(rank=16, blocks=2)
    with pytest.raises(SettingsError, match="blocks=2 but blocks=4"):
        alignment.check(rank=8, blocks=4)
    with pytest.raises(SettingsError, match=r"not for llava-x-1x2-00; it was made for llava-gemma3.*fedmosaic align"):
        alignment.basis("llava-x-1x2-00")


def damage_nothing(folder):
    (folder / RECORD).unlink()


def damage_tensors(folder):
    (folder / TENSORS).write_bytes(b"not safetensors")


def damage_json(folder):
    (folder / RECORD).write_text("{")


def damage_depth(folder):
    (folder / RECORD).write_text("[" * 10**5)


def damage_rank(folder):
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(record | {"rank": 9}))


def damage_names(folder):
    record = json.loads((folder / RECORD).read_text())
    record["correlations"].pop("block.0.q_proj")
    (folder / RECORD).write_text(json.dumps(record))


@pytest.mark.parametrize(
    "damage", [damage_nothing, damage_tensors, damage_json, damage_depth, damage_rank, damage_names]
)
def test_a_damaged_folder_is_named(alignment, tmp_path, damage):
    alignment.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match=r"holds no usable alignment.*fedmosaic align"):
        Alignment.load(tmp_path)


def test_shipped_alignments_are_found_by_architectures_rank_and_blocks(alignment, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped_module, "SHIPPED", tmp_path)
    known = list(alignment.architectures.values())
    assert shipped_module.find_shipped(known, 8, 2) is None
    alignment.save(tmp_path / "one")
    found = shipped_module.find_shipped(known, 8, 2)
    assert found is not None
    assert found.architectures == alignment.architectures
    assert shipped_module.find_shipped(known[:1], 8, 2) is not None
    assert shipped_module.find_shipped([*known, "other"], 8, 2) is None
    assert shipped_module.find_shipped(known, 16, 2) is None
    assert shipped_module.find_shipped(known, 8, 4) is None


@pytest.fixture
def making(alignment, monkeypatch, tmp_path):
    """Nothing shipped, and a maker that counts how often it is asked."""
    calls = []

    def make(names, **_):
        calls.append(list(names))
        return alignment

    monkeypatch.setattr(shipped_module, "SHIPPED", tmp_path / "nothing")
    monkeypatch.setattr(alignment_of_runs, "make_alignment", make)
    return calls


def test_an_alignment_is_made_once_and_then_read_from_the_cache(alignment, making, tmp_path):
    known = alignment.architectures
    asked = {"home": tmp_path / "home", "rank": 8, "blocks": 2, "mode": "pivot"}
    first, second = (alignment_for(known, known.__getitem__, **asked) for _ in range(2))
    assert making == [sorted(known)]
    assert first is not None
    assert second is not None
    assert second.architectures == first.architectures == known
    alignment_for(known, known.__getitem__, **asked | {"mode": "a"})
    assert len(making) == 2


def test_an_alignment_can_be_a_folder_and_must_fit(alignment, making, tmp_path):
    alignment.save(tmp_path / "given")

    def unasked(name):
        raise AssertionError(f"a folder needs no {name}")

    asked = {"home": tmp_path, "blocks": 2, "mode": str(tmp_path / "given")}
    given = alignment_for(alignment.architectures, unasked, rank=8, **asked)
    assert given is not None
    assert given.seed == 5
    with pytest.raises(SettingsError, match="rank=8 but rank=4"):
        alignment_for(alignment.architectures, unasked, rank=4, **asked)
    with pytest.raises(SettingsError, match=r"alignment='folder' is neither a mode \(none, a.*fedmosaic align"):
        alignment_for(alignment.architectures, unasked, rank=8, **asked | {"mode": "folder"})
    assert making == []


def test_nothing_is_made_where_nothing_is_to_be_aligned(alignment, making, tmp_path):
    known = alignment.architectures
    asked = {"home": tmp_path, "rank": 8, "blocks": 2}
    assert alignment_for(known, known.__getitem__, **asked | {"blocks": 0}) is None
    assert alignment_for(known, known.__getitem__, **asked, mode="none") is None
    assert alignment_for(["one", "other"], lambda _: "same", **asked) is None
    assert alignment_for(["one"], known.__getitem__, **asked) is None
    with pytest.raises(SettingsError, match="'pivto'"):
        alignment_for(["one"], known.__getitem__, **asked, mode="pivto")
    assert making == []


@pytest.mark.skipif(not shipped_module.SHIPPED.is_dir(), reason="no alignment is shipped: runs make their own")
def test_the_shipped_alignment_is_that_of_the_embedded_models(tmp_path):
    """If this fails, base models have changed: fedmosaic align mosaic40 --half --out <the folder of SHIPPED>/joint."""
    names = load_scenario("mosaic40").models
    architectures = [load_base_model(name, images=Noise(), home=tmp_path).architecture for name in names]
    found = shipped_module.find_shipped(architectures, rank=16, blocks=2)
    assert found is not None
    assert found.mode == shipped_module.DEFAULT
    default = AdapterSettings()
    assert (found.rank, found.blocks) == (default.rank, default.blocks)  # own scenarios need not wait for bases
    for name in builtin_names():
        adapter = resolve(load_scenario(name)).adapter
        assert (found.rank, found.blocks) == (adapter.rank, adapter.blocks), name
    assert found.mean().updates > 0.3


@pytest.mark.parametrize(("scenario", "folder"), [("mosaic40", "joint"), ("mosaic40-real", "real")])
def test_a_scenario_s_clients_need_not_wait_for_bases(scenario, folder):
    """If this fails for real models: fedmosaic align mosaic40-real --half --dtype bfloat16 --out <SHIPPED>/real."""
    shipped, settings = Alignment.load(shipped_module.SHIPPED / folder), resolve(load_scenario(scenario)).adapter
    assert set(shipped.architectures) == set(load_scenario(scenario).models)
    shipped.check(rank=settings.rank, blocks=settings.blocks)
    assert shipped.mode == settings.alignment
