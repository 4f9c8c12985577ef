"""Damaged, incomplete and ill-fitting checkpoints: each is one line that names what is wrong, never a traceback."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.models.device import check_device
from fedmosaic.models.library_errors import model_errors
from fedmosaic.models.load import load_base_model
from fedmosaic.pretraining.tokenizers import fit_tokenizer

LLAMA = LlamaConfig(
    vocab_size=500, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path / "model", LlamaForCausalLM(LLAMA))


@pytest.fixture
def shards(tmp_path):
    return saved(tmp_path / "model", LlamaForCausalLM(LLAMA), max_shard_size="60KB")


def saved(folder, module, **settings):
    module.save_pretrained(folder, **settings)
    words = "what kind of thing is this ? options : bird fish tool boat answer : first second"
    fit_tokenizer("bpe", [words] * 20, vocabulary=300, whole_words=[]).save_pretrained(folder)
    return folder


def load(folder, noise):
    return load_base_model(str(folder), images=noise, home=folder.parent / "home")


def refused(folder, noise, *words):
    with pytest.raises(ModelError) as caught:
        load(folder, noise)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    assert len(message) < 1000
    for word in words:
        assert word in message


def changed(file, **values):
    def change(folder):
        table = json.loads((folder / file).read_text()) | values
        (folder / file).write_text(json.dumps(table))

    return change


def written(file, content):
    return lambda folder: (folder / file).write_bytes(content)


def removed(*files):
    return lambda folder: [(folder / file).unlink() for file in files]


def directory(file):
    def change(folder):
        (folder / file).unlink()
        (folder / file).mkdir()

    return change


def loop(file):
    def change(folder):
        (folder / file).unlink()
        (folder / file).symlink_to(file)

    return change


def cut(file, length):
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:length])


def pickled(folder):
    (folder / WEIGHTS).unlink()
    torch.save({}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut(WEIGHTS, 5000), [WEIGHTS]),
        (cut(WEIGHTS, 5), [WEIGHTS]),
        (written(WEIGHTS, b""), [WEIGHTS]),
        (written(WEIGHTS, os.urandom(5000)), [WEIGHTS]),
        (directory(WEIGHTS), [WEIGHTS]),
        (loop(WEIGHTS), [WEIGHTS]),
        (removed(WEIGHTS), ["no safetensors weights"]),
        (pickled, ["pytorch_model.bin", "pickled"]),
        (written("config.json", b"{"), ["config.json"]),
        (written("config.json", b"\xff\xfe\x00"), ["config.json"]),
        (written("config.json", b"null"), ["config.json"]),
        (written("config.json", b"[" * 100_000), ["config.json"]),
        (written("config.json", b"{}"), ["config.json", "model_type"]),
        (directory("config.json"), ["config.json"]),
        (changed("config.json", model_type="nothing"), ["nothing"]),
        (changed("config.json", num_hidden_layers="two"), ["num_hidden_layers"]),
        (changed("config.json", num_hidden_layers=3), ["model.layers.2", "not in the weights"]),
        (changed("config.json", num_hidden_layers=1), ["model.layers.1", "not in the model"]),
        (changed("config.json", num_hidden_layers=0), []),
        (changed("config.json", attention_bias=True), ["_proj.bias", "not in the weights"]),
        (changed("config.json", hidden_size=64), ["of another shape"]),
        (changed("config.json", vocab_size=400), ["lm_head.weight and 1 more are of another shape"]),
        (changed("config.json", hidden_act="foo"), ["foo"]),
        (changed("config.json", rope_parameters={"rope_type": "foo"}), ["foo"]),
        (changed("config.json", dtype="float99"), ["float99"]),
        (changed("config.json", model_type="t5"), ["T5Config"]),
        (removed("tokenizer.json", "tokenizer_config.json"), ["tokenizer"]),
        (removed("tokenizer.json"), ["tokenizer"]),
        (written("tokenizer.json", b"{"), ["tokenizer"]),
        (written("tokenizer.json", b"\xff\xfe"), ["tokenizer"]),
        (written("tokenizer.json", b"{}"), ["tokenizer"]),
        (written("tokenizer_config.json", b"{"), ["tokenizer_config.json"]),
        (written("generation_config.json", b"{"), ["generation_config.json"]),
        (written("adapter_config.json", b"{}"), ["PEFT adapter", "start"]),
    ],
    ids=lambda value: value.__qualname__.split(".")[0] if callable(value) else "-".join(value)[:30],
)
def test_a_folder_that_cannot_be_used_is_one_line(folder, noise, change, words):
    change(folder)
    refused(folder, noise, *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (removed("model-00002-of-00004.safetensors"), ["model-00002-of-00004.safetensors is missing"]),
        (cut("model-00002-of-00004.safetensors", 900), ["model-00002-of-00004.safetensors"]),
        (written(INDEX, b"{"), [INDEX]),
        (written(INDEX, b"[]"), [INDEX]),
        (written(INDEX, b'{"weight_map": {}}'), [INDEX]),
        (written(INDEX, b'{"weight_map": {"a": 1}}'), [INDEX]),
    ],
)
def test_a_sharded_folder_that_cannot_be_used_is_one_line(shards, noise, change, words):
    assert load(shards, noise).parameter_count > 0
    change(shards)
    refused(shards, noise, *words)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/model", "x" * 5000, "a\0b"])
def test_names_that_are_no_path_are_one_line(noise, tmp_path, name):
    with pytest.raises(ModelError, match="base model"):
        load_base_model(name, images=noise, home=tmp_path)


def test_weights_that_are_not_numbers_are_refused(folder, noise):
    state = load_file(folder / WEIGHTS)
    state["model.norm.weight"][0] = float("nan")
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    refused(folder, noise, "not finite")


def test_what_old_releases_stored_beside_the_weights_is_harmless(noise, tmp_path):
    """Masks of the attention, as in every checkpoint of GPT-2; a bias of a linear is none of them."""
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=500, n_positions=64, bos_token_id=1, eos_token_id=2)
    folder = saved(tmp_path / "gpt2", GPT2LMHeadModel(config))
    state = load_file(folder / WEIGHTS)
    state |= {"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8), "transformer.h.0.attn.masked_bias": torch.ones(1)}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    assert load(folder, noise).limit == 64
    save_file(state | {"transformer.h.1.mlp.c_fc.lora_A": torch.ones(2)}, folder / WEIGHTS, metadata={"format": "pt"})
    refused(folder, noise, "lora_A", "not in the model")


def test_code_in_a_checkpoint_is_never_run(folder, noise, monkeypatch):
    """And nobody is asked whether it should be."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    (folder / "evil.py").write_text("raise SystemExit('it ran')")
    changed("config.json", model_type="evil", auto_map={"AutoConfig": "evil.Config"})(folder)
    refused(folder, noise, "never run")


@pytest.mark.parametrize("device", ["cuda:7", "tpu", "mps", "meta", "", "CPU", "cuda:-1", "xla", "a\nb"])
def test_a_device_that_is_not_there_is_one_line_before_anything_is_loaded(noise, tmp_path, device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is there")
    with pytest.raises(SettingsError, match=r"device=.* cannot be used here .*this machine has cpu") as caught:
        load_base_model("no such model", images=noise, home=tmp_path, device=device)
    assert "\n" not in str(caught.value)


def test_devices_that_are_there_are_accepted():
    check_device("cpu")
    check_device(torch.device("cpu"))


@pytest.mark.parametrize("error", [Exception("a\n b"), RecursionError(), KeyError("x"), RuntimeError("y" * 9000)])
def test_whatever_a_library_raises_is_one_line(error):
    with pytest.raises(ModelError, match=r"^it: .*; do that$") as caught, model_errors("it", advice="do that"):
        raise error
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert caught.value.__cause__ is error
    with pytest.raises(KeyboardInterrupt), model_errors("it"):
        raise KeyboardInterrupt
