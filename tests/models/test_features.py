import os
import shutil
import threading

import pytest
import torch
from PIL import Image

from fedmosaic.data.images import FileSource, MergedSource
from fedmosaic.errors import DataError
from fedmosaic.models.features import Features, FeatureStore, tower_digest
from fedmosaic.models.pixels import normalise
from fedmosaic.models.vision_weights import load_tower


@pytest.fixture
def store(noise, tower, tmp_path) -> FeatureStore:
    return FeatureStore(noise, tower, home=tmp_path)


@torch.no_grad()
def test_features_are_the_towers(store, noise, tower):
    keys = ["000003", "000000", "000003"]
    expected = tower(normalise([noise.load(key) for key in keys])).last_hidden_state
    features = store.get(keys)
    assert features.dtype == torch.float32
    assert features.shape == (3, 4, 256)
    torch.testing.assert_close(features, expected, rtol=2e-3, atol=2e-3)


def test_only_missing_images_are_computed(store, noise):
    assert store.prepare(["000001", "000002", "000001"]) == 2
    assert sorted(noise.loaded) == ["000001", "000002"]
    noise.loaded.clear()
    assert store.prepare(["000002", "000005"]) == 1
    assert noise.loaded == ["000005"]
    assert store.missing(["000007", "000001", "000007"]) == ["000007"]


@pytest.mark.slow
def test_another_process_reads_what_the_first_wrote(store, noise, tower, tmp_path):
    store.prepare(noise.keys())
    noise.loaded.clear()
    other = FeatureStore(noise, tower, home=tmp_path)
    assert torch.equal(other.get(noise.keys()), store.get(noise.keys()))
    assert noise.loaded == []


@pytest.mark.slow
def test_features_do_not_depend_on_the_company(noise, tower, tmp_path):
    together = FeatureStore(noise, tower, home=tmp_path / "a").get(noise.keys()[:20])
    alone = FeatureStore(noise, tower, home=tmp_path / "b").get([noise.keys()[17]])
    assert torch.equal(alone[0], together[17])


@pytest.mark.slow
def test_workers_change_nothing_but_time(noise, tower, tmp_path):
    calls = []
    one = FeatureStore(noise, tower, home=tmp_path / "a")
    two = FeatureStore(noise, tower, home=tmp_path / "b", workers=2)
    one.prepare(noise.keys())
    two.prepare(noise.keys(), progress=lambda done, total: calls.append((done, total)))
    assert torch.equal(one.get(noise.keys()), two.get(noise.keys()))
    assert calls == [(16, 40), (32, 40), (40, 40)]


@pytest.mark.slow
def test_two_at_once_compute_each_image_once(noise, tower, tmp_path):
    stores = [FeatureStore(noise, tower, home=tmp_path) for _ in range(2)]
    threads = [threading.Thread(target=store.prepare, args=(noise.keys(),)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(noise.loaded) == noise.keys()
    assert torch.equal(stores[0].get(noise.keys()), stores[1].get(noise.keys()))


def test_other_images_or_another_tower_have_their_own_folder(noise, tower, tmp_path):
    here = FeatureStore(noise, tower, home=tmp_path)
    noise.collection = "changed"
    assert FeatureStore(noise, tower, home=tmp_path).folder != here.folder
    other = load_tower(projection=None)
    assert tower_digest(other) != tower_digest(tower)
    assert tower_digest(load_tower()) == tower_digest(tower)


def test_damaged_and_half_written_files_are_computed_again(store, noise, tower, tmp_path):
    expected = store.get(["000000", "000001"])
    (shard,) = store.folder.glob("*.safetensors")
    shard.with_suffix(".part").write_bytes(shard.read_bytes()[:100])
    shard.write_bytes(shard.read_bytes()[:100])
    noise.loaded.clear()
    again = FeatureStore(noise, tower, home=tmp_path)
    assert torch.equal(again.get(["000000", "000001"]), expected)
    assert noise.loaded == ["000000", "000001"]


def test_a_missing_image_is_named_and_nothing_half_done_stays(store):
    with pytest.raises(DataError, match="999999"):
        store.get(["000000", "999999"])
    assert list(store.folder.glob("*.safetensors")) == []


def test_no_images_give_no_features(store):
    assert store.get([]).shape == (0, 4, 256)


def test_features_of_merged_sources_come_from_a_store_of_each(noise, tower, tmp_path):
    merged = Features(MergedSource(noise, "public/", lambda: noise), tower, home=tmp_path)
    merged.prepare(["000001", "public/000002"])
    mixed = merged.get(["public/000002", "000001", "000003", "public/000001"])
    alone = FeatureStore(noise, tower, home=tmp_path).get(["000002", "000001", "000003", "000001"])
    assert torch.equal(mixed, alone)
    assert merged.get([]).shape == (0, 4, 256)


@pytest.fixture
def folder(tmp_path):
    """Two pictures whose files have one size and one time."""
    (tmp_path / "data").mkdir()
    for name, colour in {"x": "red", "y": "blue"}.items():
        Image.new("RGB", (64, 64), colour).save(tmp_path / "data" / name, "BMP")
        os.utime(tmp_path / "data" / name, ns=(10**18, 10**18))
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x", "x.jfif", "x.png", "x.html"])
def test_a_replaced_picture_has_features_of_its_own_whatever_its_name(folder, tower, tmp_path, name):
    (folder / "x").rename(folder / name)
    known = FeatureStore(FileSource(folder), tower, home=tmp_path)
    red, blue = known.get([name, "y"])
    assert not torch.equal(red, blue)
    shutil.copy2(folder / "y", folder / name)
    for store in (known, FeatureStore(FileSource(folder), tower, home=tmp_path)):
        assert torch.equal(store.get([name])[0], blue)
        assert store.prepare([name, "y"]) == 0  # its twin's features are its own


def test_one_changed_picture_costs_one(folder, tower, tmp_path):
    FeatureStore(FileSource(folder), tower, home=tmp_path).prepare(["x", "y"])
    Image.new("RGB", (64, 64), "green").save(folder / "y", "BMP")
    shutil.copytree(folder, tmp_path / "moved")
    assert FeatureStore(FileSource(tmp_path / "moved"), tower, home=tmp_path).prepare(["x", "y"]) == 1


def test_a_picture_that_changes_while_it_is_read_is_named_and_nothing_is_kept(folder, tower, tmp_path):
    class Changing(FileSource):
        def load(self, key):
            image = super().load(key)
            shutil.copy2(folder / "y", folder / key)
            return image

    store = FeatureStore(Changing(folder), tower, home=tmp_path)
    with pytest.raises(DataError, match="'x' was changed"):
        store.get(["x"])
    assert list(store.folder.glob("*.safetensors")) == []


def test_a_damaged_picture_is_named(folder, tower, tmp_path):
    (folder / "x").write_bytes((folder / "x").read_bytes()[:1000])
    with pytest.raises(DataError, match="'x'"):
        FeatureStore(FileSource(folder), tower, home=tmp_path).get(["x"])
