import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlavaForConditionalGeneration, PreTrainedConfig

from fedmosaic.errors import ModelError
from fedmosaic.models.load import load_base_model, read_module, save_without_tower
from fedmosaic.models.pixels import normalise
from fedmosaic.models.vision import VisionTowerConfig
from fedmosaic.models.vision_weights import ASSETS
from fedmosaic.registry import FAMILIES

BUILT_IN = sorted(FAMILIES)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_models_are_small_complete_and_frozen(name, noise, samples, tmp_path):
    model = load_base_model(name, images=noise, home=tmp_path)
    files = list((ASSETS / name).iterdir())
    assert sum(file.stat().st_size for file in files) <= 5_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json", "pretraining.json"} <= {file.name for file in files}
    assert model.module.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert torch.isfinite(model.loss(model.collate(samples)))
    assert model.name == name


@pytest.mark.slow
def test_code_of_an_exported_model_that_was_run_before_is_of_no_consequence(noise, samples, tmp_path):
    copy = type("VisionTowerConfig", (PreTrainedConfig,), {"model_type": VisionTowerConfig.model_type})
    before = load_base_model("tiny-llama", images=noise, home=tmp_path)
    AutoConfig.register(copy.model_type, copy, exist_ok=True)
    after = load_base_model("tiny-llama", images=noise, home=tmp_path)
    assert after.loss(after.collate(samples)).item() == before.loss(before.collate(samples)).item()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "auto"])
@torch.no_grad()
def test_a_built_in_model_in_another_dtype_is_the_same_model_with_the_same_features(dtype, noise, samples, tmp_path):
    plain = load_base_model("tiny-llama", images=noise, home=tmp_path / "a")
    model = load_base_model("tiny-llama", images=noise, home=tmp_path / "b", dtype=dtype)
    assert model.decoder.layers[0].mlp.up_proj.weight.dtype == (
        torch.float32 if dtype == "auto" else getattr(torch, dtype)
    )
    assert model.architecture == plain.architecture
    ours, theirs = model.collate(samples), plain.collate(samples)
    assert torch.equal(ours.vision["features"], theirs.vision["features"])
    assert model.features.main.folder.name == plain.features.main.folder.name
    assert float(model.loss(ours)) == pytest.approx(float(plain.loss(theirs)), rel=0.03)


@pytest.mark.slow
def test_built_in_models_are_of_different_architectures(noise, tmp_path):
    models = [load_base_model(name, images=noise, home=tmp_path) for name in BUILT_IN]
    assert len({model.architecture for model in models}) == len(BUILT_IN)
    assert len({model.features.main.folder for model in models}) == 1  # one tower, one cache
    again = load_base_model(BUILT_IN[0], images=noise, home=tmp_path)
    assert again.architecture == models[0].architecture


@pytest.mark.slow
@torch.no_grad()
def test_saved_with_its_tower_a_model_reads_back_the_same(tiny, samples, noise, tmp_path):
    tiny.module.save_pretrained(tmp_path / "saved")
    tiny.tokenizer.save_pretrained(tmp_path / "saved")
    pixels = normalise([noise.load(key) for sample in samples for key in sample.images])
    batch = tiny.collate(samples)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "pixel_values": pixels}
    expected = tiny.module(**inputs).logits
    plain = LlavaForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(plain(**inputs).logits, expected)
    model = load_base_model(str(tmp_path / "saved"), images=noise, home=tmp_path / "home")
    assert model.architecture == tiny.architecture
    assert torch.equal(model.collate(samples).input_ids, batch.input_ids)
    assert torch.equal(model.head(model.hidden_states(model.collate(samples))), tiny.head(tiny.hidden_states(batch)))


@pytest.mark.slow
@torch.no_grad()
def test_without_the_tower_it_is_attached_from_the_package(tiny, tmp_path):
    save_without_tower(tiny.module, tiny.tokenizer, tmp_path)
    again = read_module(tmp_path)
    for (name, ours), (_, theirs) in zip(again.state_dict().items(), tiny.module.state_dict().items(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6, msg=name)
        assert ours.dtype == torch.float32
    assert again.lm_head.weight is again.model.language_model.embed_tokens.weight


def test_an_unknown_name_lists_the_built_in_ones(noise, tmp_path):
    with pytest.raises(ModelError, match=r"'tiny-lama'.*tiny-gemma, tiny-llama, .*tiny-qwen2.*config\.json"):
        load_base_model("tiny-lama", images=noise, home=tmp_path)


def test_a_folder_without_a_configuration_is_named(noise, tmp_path):
    with pytest.raises(ModelError, match=f"{tmp_path}.*no config.json"):
        load_base_model(str(tmp_path), images=noise, home=tmp_path)


def test_damaged_files_are_named(tiny, noise, tmp_path):
    folder = tmp_path / "model"
    save_without_tower(tiny.module, tiny.tokenizer, folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        load_base_model(str(folder), images=noise, home=tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json"):
        load_base_model(str(folder), images=noise, home=tmp_path)


@pytest.mark.slow
def test_weights_of_another_shape_are_refused(tiny, tmp_path):
    """With the tower among them or not."""
    tiny.module.save_pretrained(tmp_path / "whole")
    state = load_file(tmp_path / "whole" / "model.safetensors")
    state.pop(next(key for key in state if "q_proj" in key))
    save_file(state, tmp_path / "whole" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"q_proj.*not in the weights"):
        read_module(tmp_path / "whole")
    save_without_tower(tiny.module, tiny.tokenizer, tmp_path / "a")
    state = load_file(tmp_path / "a" / "model.safetensors")
    state.pop(next(key for key in state if "q_proj" in key))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    save_file(state, tmp_path / "b" / "model.safetensors")
    with pytest.raises(ModelError, match="q_proj"):
        read_module(tmp_path / "b")
