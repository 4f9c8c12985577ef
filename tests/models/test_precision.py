"""Precision, quantisation and attention of checkpoints as they are loaded, and what is said where they do not fit."""

import math

import pytest
import torch
from tests.api.objects import text_model
from transformers import AutoModelForCausalLM

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.data.images import GivenImages
from fedmosaic.data.sample import Sample
from fedmosaic.errors import RunError, SettingsError
from fedmosaic.models import attention, load, load_base_model, quantised, read, sizes

SAMPLES = [Sample(f"s{i}", (), f"what is the capital of {word} ?", word) for i, word in enumerate(("rome", "paris"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, own = tmp_path_factory.mktemp("checkpoint"), text_model()
    own.module.to(torch.bfloat16).save_pretrained(path)
    own.processor.save_pretrained(path)
    return path


def loaded(folder, home, **how):
    return load_base_model(str(folder), images=GivenImages(()), home=home, **how)


def trained(model):
    """Take a step and return the adapter's dtypes and gradients."""
    adapter = Adapter.attach(
        model.module, model.decoder, slots=[Slot("local", communicated=False)], rank=2, alpha=4, seed=0,
        architecture=model.architecture,
    )  # fmt: skip
    model.adapter = adapter
    adapter.train_only("local")
    model.loss(model.collate(SAMPLES)).backward()
    return adapter


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "auto"])
def test_weights_are_of_the_asked_dtype_and_adapters_of_float32(folder, home, dtype):
    model = loaded(folder, home, dtype=dtype)
    assert model.module.dtype == {"float32": torch.float32, "float16": torch.float16}.get(dtype, torch.bfloat16)
    adapter = trained(model)
    parameters = adapter.parameters("local").values()
    assert {each.dtype for each in parameters} == {each.grad.dtype for each in parameters} == {torch.float32}


def test_an_int8_base_learns_and_keeps_its_architectures_name(folder, home):
    pytest.importorskip("optimum.quanto")
    pytest.importorskip("accelerate")
    whole, small = (loaded(folder, home, dtype="auto", quantisation=how) for how in ("none", "int8"))
    assert small.architecture == whole.architecture  # the same adapters fit
    assert type(small.module.model.layers[0].mlp.up_proj).__name__ == "QLinear"
    with torch.no_grad():
        losses = [model.loss(model.collate(SAMPLES)).item() for model in (whole, small)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert any(parameter.grad.abs().sum() > 0 for parameter in trained(small).parameters("local").values())


def test_nf4_is_asked_of_the_library_that_transformers_uses(monkeypatch, folder, home):
    """The library's part is played by what reads the request and loads the weights as they are."""
    seen, real = [], read._module

    def stand_in(path, kind, dtype, **how):
        seen.append(how)
        return real(path, kind, dtype)

    monkeypatch.setattr(read, "_module", stand_in)
    monkeypatch.setattr(quantised, "installed", lambda library: True)
    monkeypatch.setattr(load, "check_single", lambda device: None)
    monkeypatch.setattr(read, "check_dtype", lambda device, dtype: None)
    model = loaded(folder, home, dtype="bfloat16", quantisation="nf4", device="cuda:0")
    how, stored = seen
    assert how["device_map"] == {"": "cuda:0"} and not stored
    config = how["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    assert model.architecture == loaded(folder, home, dtype="auto").architecture


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantisation": "nf4"}, "nf4 needs a CUDA device, and this is cpu"),
        ({"quantisation": "int8"}, "pip install optimum-quanto accelerate"),
        ({"attention": "flash_attention_2"}, "needs a CUDA device, and this is cpu; model.attention=sdpa"),
        ({"device": "cpu:0,cpu:1"}, "names 2 devices"),
        ({"device": "tpu"}, "this machine has cpu"),
    ],
)
def test_what_is_not_there_is_one_line_before_anything_is_loaded(monkeypatch, folder, home, options, words):
    monkeypatch.setattr(quantised, "installed", lambda library: False)
    monkeypatch.setattr(read, "_module", None)
    with pytest.raises(SettingsError) as caught:
        loaded(folder, home, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_flash_attention_says_what_to_install_and_what_it_computes_in(monkeypatch):
    monkeypatch.setattr(attention, "installed", lambda library: False)
    with pytest.raises(SettingsError, match="pip install flash-attn"):
        attention.check_attention("flash_attention_2", "cuda", "bfloat16")
    monkeypatch.setattr(attention, "installed", lambda library: True)
    attention.check_attention("flash_attention_2", "cuda", "bfloat16")
    with pytest.raises(SettingsError, match=r"half precision only, and model\.dtype is float32"):
        attention.check_attention("flash_attention_2", "cuda:1", torch.float32)


def test_a_model_that_is_too_large_says_what_would_fit(monkeypatch, folder, home):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 is full")

    weights = sum(parameter.numel() for parameter in text_model().module.parameters())
    assert sizes.count_weights(folder) == weights
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    for memory, advice in {
        2.5 * weights: "model.dtype=bfloat16 fits",
        0.6 * weights: "model.quantisation=nf4 fits",
        0.1 * weights: "use a smaller model",
    }.items():
        monkeypatch.setattr(sizes, "memory_of", lambda device, memory=memory: math.ceil(memory))
        with pytest.raises(RunError) as caught:
            loaded(folder, home)
        assert f"base model {folder} is loaded" in str(caught.value) and advice in str(caught.value)
        assert "\n" not in str(caught.value)
