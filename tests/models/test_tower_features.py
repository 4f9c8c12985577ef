"""A checkpoint's tower runs once for each picture, and the model computes what it computes from pixels."""

import functools
import shutil
from importlib.util import find_spec

import pytest
import torch
import transformers as tf
from tests.models.instances import INSTANCES
from tests.models.making import save
from tests.models.test_past import attach
from tests.models.test_processors import SMALL, TEMPLATE, VISION, save_gemma3, save_idefics3, tokenizer_with

from fedmosaic import events
from fedmosaic.config import load_scenario, resolve
from fedmosaic.data.images import FileSource
from fedmosaic.data.sample import Sample
from fedmosaic.models import load_base_model
from fedmosaic.models.bounded_folder import BoundedFolder
from fedmosaic.models.tower_features import NAME


def save_llava(folder):
    vision = tf.CLIPVisionConfig(**VISION, image_size=28, projection_dim=32)
    text = tf.LlamaConfig(**SMALL)
    tokenizer = tokenizer_with()
    mark = tokenizer.convert_tokens_to_ids("<image>")
    config = tf.LlavaConfig(vision_config=vision, text_config=text, image_token_index=mark, image_seq_length=4)
    tf.LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = tf.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    tf.LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("MARK", "<image>"),
    ).save_pretrained(folder)


SAVED = {"llava": save_llava, "idefics3": save_idefics3}


def saved(kind, folder):
    torch.manual_seed(0)
    SAVED[kind](folder)
    return folder


@pytest.fixture(params=sorted(SAVED))
def folder(request, tmp_path):
    return saved(request.param, tmp_path / "checkpoint")


@pytest.fixture
def llava(tmp_path):
    return saved("llava", tmp_path / "checkpoint")


def load(folder, images, tmp_path, gib=1.0):
    return load_base_model(str(folder), images=images, home=tmp_path / "home", feature_cache=gib)


def runs(model):
    """Count the pictures that go through the tower."""
    count = []
    tower = model.module.get_submodule(model.interface.tower_path)
    tower.register_forward_pre_hook(
        lambda _, __, named: count.append(len(named["pixel_values"])) if "pixel_values" in named else None,
        with_kwargs=True,
    )
    tower.register_forward_pre_hook(lambda _, given: count.append(len(given[0])) if given else None)
    return count


def files(tmp_path):
    return sorted((tmp_path / "home" / "tower-features").rglob("*.safetensors"))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("adapted", [False, True])
def test_features_stand_for_pixels(folder, noise, samples, tmp_path, adapted):
    model, plain = load(folder, noise, tmp_path), load(folder, noise, tmp_path, gib=0)
    if adapted:
        for each in (model, plain):
            attach(each, "scalar", tower=True)
    batch = model.collate(samples)
    assert NAME in batch.vision
    assert not any(name.startswith("pixel") for name in batch.vision)
    expected = plain.hidden_states(plain.collate(samples))
    torch.testing.assert_close(model.hidden_states(batch), expected, rtol=1e-4, atol=1e-5)
    other = [Sample("x", ("000009",), samples[0].prompt, "bird")]
    assert not torch.allclose(
        model.hidden_states(model.collate(other)), model.hidden_states(model.collate(samples[:1]))
    )
    assert model.answer(samples, max_tokens=3) == plain.answer(samples, max_tokens=3)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", [name for name, instance in INSTANCES.items() if instance.processor is not None])
def test_with_every_architecture_features_stand_for_pixels_or_are_not_kept(name, noise, tmp_path):
    """Some decoders take the tokens of all pictures as a list, some as one tensor."""
    if missing := [package for package in INSTANCES[name].needs if find_spec(package) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    save(INSTANCES[name], tmp_path / "checkpoint")
    asked = [
        Sample("one", ("000000",), "<image> what kind of thing is this ?", "bird"),
        Sample("two", ("000001", "000002"), "<image> first <image> second which image ?", "first"),
    ]
    model, plain = load(tmp_path / "checkpoint", noise, tmp_path), load(tmp_path / "checkpoint", noise, tmp_path, gib=0)
    if name in ("gemma3", "paligemma2", "llava", "idefics3", "smolvlm"):
        assert NAME in model.collate(asked).vision
    expected = plain.hidden_states(plain.collate(asked))
    for each in (model, load(tmp_path / "checkpoint", noise, tmp_path)):  # computed, and read from the folder
        torch.testing.assert_close(each.hidden_states(each.collate(asked)), expected, rtol=1e-4, atol=1e-4)
    other = model.collate([Sample("other", ("000009",), asked[0].prompt, "bird")])
    assert not torch.allclose(model.hidden_states(other), model.hidden_states(model.collate(asked[:1])))


@pytest.mark.slow
@torch.no_grad()
def test_each_picture_goes_through_the_tower_once_on_a_machine(folder, noise, samples, tmp_path):
    model = load(folder, noise, tmp_path)
    count = runs(model)
    model.prepare(samples)
    assert count == [1, 1, 1, 1]
    first = model.hidden_states(model.collate(samples))
    alone = model.collate(samples[2:3]).vision[NAME]
    again = load(folder, noise, tmp_path)
    seen = runs(again)
    assert torch.equal(again.hidden_states(again.collate(samples)), first)
    assert torch.equal(again.collate(samples[1:3]).vision[NAME][-len(alone) :], alone)
    assert count == [1, 1, 1, 1]
    assert seen == []


@torch.no_grad()
def test_computed_beside_an_adapter_they_are_the_towers_own(folder, noise, samples, tmp_path):
    bare, model = load(folder, noise, tmp_path / "a"), load(folder, noise, tmp_path / "b")
    adapter = attach(model, "sample", tower=True)
    assert torch.equal(model.collate(samples).vision[NAME], bare.collate(samples).vision[NAME])
    assert adapter.attached


@pytest.mark.slow
def test_other_weights_settings_and_pictures_have_features_of_their_own(llava, noise, tmp_path):
    model = load(llava, noise, tmp_path)
    same, tower, processor = (load(llava, noise, tmp_path) for _ in range(3))
    next(tower.module.get_submodule(tower.interface.tower_path).parameters()).data.flatten()[0] += 1e-6
    processor.processor.image_processor.image_mean = [0.4, 0.4, 0.4]
    assert same.features.key == model.features.key
    assert len({each.features.key for each in (model, tower, processor)}) == 3
    for name, key in (("x", "000001"), ("y", "000002")):
        noise.load(key).save(tmp_path / f"{name}.png")
    seen = load(llava, FileSource(tmp_path), tmp_path)
    asked = [Sample(name, (f"{name}.png",), "<image> what ? answer :", "bird") for name in ("x", "y")]
    red, blue = seen.collate(asked).vision[NAME]
    shutil.copy(tmp_path / "y.png", tmp_path / "x.png")
    assert torch.equal(seen.collate(asked).vision[NAME], torch.stack([blue, blue]))
    assert not torch.equal(red, blue)


@pytest.mark.slow
@torch.no_grad()
def test_a_full_folder_keeps_a_part_and_a_damaged_file_is_made_again(llava, noise, samples, tmp_path):
    model, plain = load(llava, noise, tmp_path), load(llava, noise, tmp_path, gib=0)
    model.prepare(samples)
    whole = files(tmp_path)
    size = sum(path.stat().st_size for path in whole)
    whole[0].write_bytes(whole[0].read_bytes()[:50])
    expected = plain.hidden_states(plain.collate(samples))
    torch.testing.assert_close(model.hidden_states(model.collate(samples)), expected, rtol=1e-4, atol=1e-5)
    assert sum(path.stat().st_size for path in files(tmp_path)) == size
    small = load(llava, noise, tmp_path / "small", gib=0.6 * size / 2**30)
    torch.testing.assert_close(small.hidden_states(small.collate(samples)), expected, rtol=1e-4, atol=1e-5)
    assert 0 < sum(path.stat().st_size for path in files(tmp_path / "small")) <= 0.6 * size


def test_room_is_made_by_what_earlier_processes_used_last(tmp_path):
    def tensors(value):
        return {"x": torch.full((1000,), float(value))}

    earlier = BoundedFolder(tmp_path, 20_000)
    for index in range(3):
        earlier.put(f"a/{index}", tensors(index))
    now = BoundedFolder(tmp_path, 20_000)
    assert torch.equal(now.get("a/0")["x"], tensors(0)["x"])  # so it is in use
    for index in range(3, 10):
        now.put(f"b/{index}", tensors(index))
    kept = {f"{path.parent.name}/{path.stem}" for path in tmp_path.rglob("*.safetensors")}
    assert kept == {"a/0", "b/3", "b/4", "b/5"}
    assert now.get("b/9") is None


def test_where_the_projector_is_unknown_the_tower_runs_on(noise, samples, tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("fedmosaic.models.checkpoint.give_linear", lambda _: None)
    save_gemma3(tmp_path / "checkpoint")
    told = []
    with events.listening(told.append):
        model = load(tmp_path / "checkpoint", noise, tmp_path)
    assert "pixel_values" in model.collate(samples).vision
    assert any("cannot be kept" in str(record) for record in told)


def test_what_a_projector_gives_must_be_what_the_decoder_reads(llava, noise, samples, tmp_path, monkeypatch):
    """As LLaVA-NeXT, which puts line ends between the rows of its tiles."""
    model = load(llava, noise, tmp_path)
    base = type(model.module.base_model)
    features = base.get_image_features

    @functools.wraps(features)
    def with_line_ends(self, *args, **named):
        output = features(self, *args, **named)
        output.pooler_output = [torch.cat([each, each[:1]]) for each in output.pooler_output]
        return output

    monkeypatch.setattr(base, "get_image_features", with_line_ends)
    assert "pixel_values" in model.collate(samples).vision
    assert files(tmp_path) == []


def test_runs_are_what_they_were_before_unless_it_is_switched_on():
    scenario = load_scenario("mosaic40-small")
    plain = resolve(scenario)
    assert plain.model.feature_cache == 0
    assert resolve(scenario, overrides=["model.feature_cache=2"]).digest != plain.digest
