"""A run on checkpoints of other people: text models in half precision, from the scenario file to the exports."""

import json

import pytest
import tomli_w
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from tests.cli.test_cli import call
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from fedmosaic.data.images import GivenImages
from fedmosaic.federation import Assets, ClientRuntime, RunFolder
from fedmosaic.federation.final_model import final_model
from fedmosaic.pretraining.tokenizers import fit_tokenizer
from fedmosaic.training import ClientState

pytestmark = pytest.mark.slow  # whole runs

WORDS = "which is the odd one out ? options : bird fish tool boat answer : first second red green a Choice list [ , ]"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random Llama in bfloat16, in several files, with tied embeddings and generation settings."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=500, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    module = LlamaForCausalLM(config).to(torch.bfloat16)
    module.save_pretrained(folder, max_shard_size="20KB")
    generation = {"eos_token_id": [2, 3], "do_sample": False, "temperature": 0.6}  # as Llama 2's: not valid any more
    (folder / "generation_config.json").write_text(json.dumps(generation))
    fit_tokenizer("bpe", [WORDS] * 20, vocabulary=300, whole_words=[]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scenario(checkpoint, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    records = [
        {"conversations": [{"from": "human", "value": f"which ? {i} Choice list:[first, second]"},
                           {"from": "gpt", "value": ("first", "second")[i % 2]}]}
        for i in range(8)
    ]  # fmt: skip
    for split in ("train", "test"):
        (data / "dataset" / "Odd" / split).mkdir(parents=True)
        (data / "dataset" / "Odd" / split / "dataset-0.json").write_text(json.dumps(records))
    clients = [{"id": client, "model": str(checkpoint), "tasks": ["Odd-0"]} for client in range(2)]
    table = {"name": "own", "benchmark": "published", "data": str(data), "clients": clients}
    path = data / "scenario.toml"
    path.write_text(tomli_w.dumps(table))
    return path


def started(monkeypatch, capsys, scenario, out, *options, method="fedavg"):
    small = ["training.steps=2", "training.batch_size=4", "training.learning_rate=0.05", "adapter.rank=4", *options]
    settings = [word for each in small for word in ("--set", each)]
    return call(
        monkeypatch, capsys, "run", scenario, "--method", method, "--rounds", 1, "--out", out, "--quiet", *settings
    )


def dtypes(folder):
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return found


def weights(folder):
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "auto"])
def test_exports_keep_the_bases_dtype_whatever_it_trained_in(
    monkeypatch, capsys, tmp_path, checkpoint, scenario, dtype
):
    status, _, error = started(monkeypatch, capsys, scenario, tmp_path / "run", f"model.dtype={dtype}")
    assert status == 0, error
    record = tmp_path / "run" / "settings.toml"
    record.write_text(record.read_text().replace('device = "cpu"', 'device = "cuda:7"'))  # as if made elsewhere
    assert RunFolder(tmp_path / "run").settings.device == "cuda:7"
    for form in ("base", "merged", "lora"):
        out = tmp_path / form
        status, _, error = call(
            monkeypatch, capsys, "export", tmp_path / "run", "--client", 0, "--as", form, "--out", out
        )
        assert status == 0, error
    before, base, merged = (weights(folder) for folder in (checkpoint, tmp_path / "base", tmp_path / "merged"))
    assert dtypes(tmp_path / "base") == dtypes(tmp_path / "merged") == dtypes(checkpoint)
    assert set(dtypes(checkpoint).values()) == {"BF16"}
    assert before.keys() == base.keys() == merged.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.items())
    changed = {name for name, tensor in merged.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if "_proj" in name}
    for form in ("base", "merged"):
        config = json.loads((tmp_path / form / "config.json").read_text())
        assert config["dtype"] == "bfloat16"
        generation = json.loads((tmp_path / form / "generation_config.json").read_text())
        assert (generation["eos_token_id"], generation["temperature"]) == ([2, 3], 0.6)
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / form)
        assert plain.dtype == torch.bfloat16
        assert plain.lm_head.weight is plain.model.embed_tokens.weight
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32), tmp_path / "lora"
    )
    for name, tensor in theirs.merge_and_unload().state_dict().items():
        if name in merged:  # the same sum, rounded once
            assert torch.equal(tensor.bfloat16(), merged[name]) or torch.allclose(
                tensor, merged[name].float(), rtol=2**-7, atol=1e-6
            )


def test_bases_compute_in_the_dtype_of_the_settings(monkeypatch, capsys, tmp_path, scenario):
    found = {}
    for dtype in ("float32", "bfloat16", "auto"):
        assert (
            started(
                monkeypatch,
                capsys,
                scenario,
                tmp_path / dtype,
                f"model.dtype={dtype}",
                "adapter.blocks=2",
                method="fedmosaic",
            )[0]
            == 0
        )
        folder = RunFolder(tmp_path / dtype)
        model = final_model(ClientRuntime(Assets(folder.settings, images=GivenImages(())), folder.client_folder), 0)
        assert model.base.module.dtype == (torch.float32 if dtype == "float32" else torch.bfloat16)
        tensors = ClientState.of_adapter(model.adapter).tensors()
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
        found[dtype] = tensors | {"architecture": model.base.architecture}
    assert len({each.pop("architecture") for each in found.values()}) == 1
    assert all(torch.equal(tensor, found["auto"][name]) for name, tensor in found["bfloat16"].items())
    assert any(not torch.equal(tensor, found["float32"][name]) for name, tensor in found["bfloat16"].items())


def test_unknown_dtypes_and_devices_are_one_line(monkeypatch, capsys, tmp_path, scenario):
    cases = {"model.dtype=float8": "bfloat16", "device=cuda:7": "cuda:7", "device=tpu": "tpu", "device=meta": "meta"}
    for option, word in cases.items():
        status, _, error = started(monkeypatch, capsys, scenario, tmp_path / "out", option)
        assert status == 2
        assert word in error
        assert "Traceback" not in error
        assert len(error.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()


def test_a_record_longer_than_the_model_is_named_before_the_run_starts(
    monkeypatch, capsys, tmp_path, checkpoint, scenario
):
    table = json.loads((checkpoint / "config.json").read_text())
    short = tmp_path / "short"
    short.mkdir()
    for path in checkpoint.iterdir():
        (short / path.name).write_bytes(path.read_bytes())
    (short / "config.json").write_text(json.dumps({**table, "max_position_embeddings": 12}))
    own = tmp_path / "own.toml"
    own.write_text(scenario.read_text().replace(str(checkpoint), str(short)))
    status, _, error = started(monkeypatch, capsys, own, tmp_path / "out")
    assert status == 2
    assert "at most 12" in error
    assert "tokens long" in error
    assert not (tmp_path / "out").exists()
