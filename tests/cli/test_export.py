"""Taking a client's model away: exported, loaded by PEFT and transformers alone, and asked a question."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tomli_w
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.cli.test_cli import call
from transformers import AutoProcessor, LlamaConfig, LlamaForCausalLM

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.adapters.export import write_lora
from fedmosaic.config import Scenario, resolve
from fedmosaic.data.images import GivenImages
from fedmosaic.data.sample import Sample
from fedmosaic.federation import Assets, ClientRuntime, RunFolder, alignment, engines
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.final_model import final_model

pytestmark = pytest.mark.slow  # whole runs

QUESTION = "which image is the odd one out ? options : first second answer :"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run per method, with clients of all embedded families, on eight images of noise."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    records = []
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(data / f"{i}.png")
        answer = ("first", "second")[i % 2]
        turns = [{"value": "<image> <image> which ? Choice list:[first, second]"}, {"value": answer}]
        records.append({"conversations": turns, "image": [f"{i}.png", f"{(i + 3) % 8}.png"]})
    for split in ("train", "test"):
        (data / "dataset" / "Odd" / split).mkdir(parents=True)
        (data / "dataset" / "Odd" / split / "dataset-0.json").write_text(json.dumps(records))
    clients = [
        {"id": client, "model": model, "tasks": ["Odd-0"]}
        for client, model in enumerate(("tiny-llama", "tiny-qwen2", "tiny-gemma", "tiny-llama"))
    ]
    scenario = Scenario(
        name="families",
        benchmark="published",
        data=str(data),
        probe="tiny-llama",
        clients=clients,
        settings={
            "rounds": 2,
            "training": {"steps": 2, "batch_size": 4, "gate_learning_rate": 0.3},
            "adapter": {"blocks": 2, "rank": 4, "alignment": "none"},
        },
    )
    paths = {}
    for method in ("fedmosaic", "fedavg"):
        settings = resolve(scenario, method=method)
        paths[method] = tmp_path_factory.mktemp("run") / method
        engines.run(settings, RunFolder.create(paths[method], settings))
    return paths


@pytest.fixture
def run(runs):
    return runs["fedmosaic"]


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / "one.png", tmp_path / "two.jpg"]
    for path, size in zip(paths, [(64, 64, 3), (90, 60, 3)], strict=True):
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(path)
    return paths


def runtime_of(path, images=None):
    folder = RunFolder(path)
    return ClientRuntime(Assets(folder.settings, images=images), folder.client_folder)


@pytest.mark.parametrize("method", ["fedmosaic", "fedavg"])
@torch.no_grad()
def test_every_client_of_a_run_answers_the_same_from_its_peft_folder(tmp_path, runs, method):
    """In double precision: at logits of 26, float32 alone puts PEFT 1.4e-5 away from what it computes."""
    runtime = runtime_of(runs[method])
    samples = runtime.assets.benchmark.task("Odd-0").test[:4]
    for spec in runtime.assets.settings.scenario.clients:
        write_lora(final_model(runtime, spec.id).adapter, tmp_path / str(spec.id), base_model=spec.model)
        client = ClientNode(runtime, spec.id).client_after(runtime.assets.settings.rounds)
        batch = client.base.collate(samples)
        client.base.module.double()
        with client.adapter.mixed(runtime.assets.method.answers_with):
            expected = client.base.head(client.base.hidden_states(batch))
        client.adapter.detach()
        untrained = client.base.head(client.base.hidden_states(batch))
        theirs = PeftModel.from_pretrained(client.base.module, tmp_path / str(spec.id)).double()
        found = client.base.head(client.base.hidden_states(batch))
        theirs.unload()
        client.adapter.reattach()
        client.base.module.float()
        assert found.dtype == expected.dtype == torch.float64
        torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)
        assert (untrained - expected).abs().max() > 1e-2


PLAIN = """
    import sys
    sys.modules["fedmosaic"] = None  # importing it fails
    import pathlib, torch, transformers
    from functools import partial
    from peft import PeftModel
    from safetensors.torch import load_file, save_file

    for name in sys.argv[1:]:
        inputs = load_file(f"{name}/inputs.safetensors")
        kind = "ImageTextToText" if "pixel_values" in inputs else "CausalLM"
        load = partial(getattr(transformers, f"AutoModelFor{kind}").from_pretrained, trust_remote_code=True)
        with torch.no_grad():
            base = load(f"{name}/base").double()
            found = {"base": base(**inputs).logits}
            found["lora"] = PeftModel.from_pretrained(base, f"{name}/lora").double().eval()(**inputs).logits
            if pathlib.Path(f"{name}/merged").exists():
                found["merged"] = load(f"{name}/merged").double()(**inputs).logits
        save_file(found, f"{name}/outputs.safetensors")
"""


def export_text_model(folder, inputs):
    """Write a random Llama without eyes and its adapter, and return the logits of both."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder / "base")
    slots = (Slot("local", communicated=True), Slot("other", communicated=False))
    adapter = Adapter.attach(
        model, model, slots=slots, rank=4, alpha=8, blocks=2, gate="scalar", seed=0, architecture="text"
    )
    for group in adapter.named_groups().values():
        for parameter in group.values():
            torch.nn.init.normal_(parameter, std=0.3)
    write_lora(adapter, folder / "lora", base_model="base", task_type="CAUSAL_LM")
    model.double()
    lora = model(**inputs).logits
    with adapter.disabled():
        return {"base": model(**inputs).logits, "lora": lora}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["text", "tiny-llama", "tiny-qwen2", "tiny-gemma"])
@torch.no_grad()
def test_plain_transformers_and_peft_load_what_was_exported(monkeypatch, capsys, tmp_path, run, pictures, family):
    folder = tmp_path / family
    folder.mkdir()
    if family == "text":
        inputs = {"input_ids": torch.arange(12).view(2, 6)}
        expected = export_text_model(folder, inputs)
    else:
        client = {"tiny-llama": 0, "tiny-qwen2": 1, "tiny-gemma": 2}[family]
        for form in ("base", "lora", *(["merged"] if family == "tiny-llama" else [])):
            out = folder / form
            status, _, error = call(monkeypatch, capsys, "export", run, "--client", client, "--as", form, "--out", out)
            assert status == 0, error
            assert "from_pretrained" in (out / "README.md").read_text()
            assert ModelCard((out / "README.md").read_text()).data.library_name
            told = [path.read_text() for path in out.rglob("*") if path.suffix in (".md", ".json")]
            assert not any(str(part) in text for text in told for part in (tmp_path.parent, run))
            assert "```python" in (out / "README.md").read_text().splitlines()  # else Markdown shows no block
        processor = AutoProcessor.from_pretrained(folder / "base")
        question = f"<bos><image> first <image> second {QUESTION}"
        inputs = dict(processor(text=question, images=[Image.open(path) for path in pictures], return_tensors="pt"))
        inputs["pixel_values"] = inputs["pixel_values"].double()
        model = final_model(runtime_of(run, images=GivenImages(pictures)), client)
        model.base.module.double()
        lora = model.base.module(**inputs).logits
        with model.adapter.disabled():
            expected = {"base": model.base.module(**inputs).logits, "lora": lora, "merged": lora}
    save_file(inputs, folder / "inputs.safetensors")
    script = tmp_path / "plain.py"
    script.write_text(textwrap.dedent(PLAIN))
    done = subprocess.run([sys.executable, script, family], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = load_file(folder / "outputs.safetensors")
    for form in ("base", "lora", "merged") if (folder / "merged").exists() else ("base", "lora"):
        # In double precision: another process may sum floats in another order, which is not what is tested here.
        torch.testing.assert_close(found[form], expected[form], atol=1e-5, rtol=0)
    assert (expected["lora"] - expected["base"]).abs().max() > 1e-2


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(monkeypatch, capsys, tmp_path, run):
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    cases = [
        ((run, "--client", 2, "--as", "merged", "--out", tmp_path / "out"), ["gemma3", "no bias", "--as lora"]),
        ((run, "--client", 9, "--as", "lora", "--out", tmp_path / "out"), ["client 9", "[0, 1, 2, 3]"]),
        ((run, "--client", 0, "--as", "gguf", "--out", tmp_path / "out"), ["gguf", "lora, merged, base"]),
        ((run, "--client", 0, "--as", "lora", "--out", full), ["full", "already holds"]),
        ((tmp_path, "--client", 0, "--as", "lora", "--out", tmp_path / "out"), ["not a run folder"]),
    ]
    for arguments, words in cases:
        status, _, error = call(monkeypatch, capsys, "export", *arguments)
        assert status == 2
        for word in words:
            assert word in error
        assert sorted(tmp_path.iterdir()) == [full]
    assert [path.name for path in full.iterdir()] == ["notes.txt"]


def test_a_client_starts_from_an_exported_lora(monkeypatch, capsys, tmp_path, runs):
    """In every slot; before any training it answers as the client that the LoRA was exported from."""
    folder = tmp_path / "lora"
    call(monkeypatch, capsys, "export", runs["fedavg"], "--client", 1, "--as", "lora", "--out", folder)
    old = RunFolder(runs["fedavg"]).settings
    clients = [spec.model_dump(mode="json") for spec in old.scenario.clients[:2]]
    clients[1]["start"] = str(folder)
    scenario = old.scenario.model_dump(mode="json") | {"clients": clients, "settings": {"rounds": 1}}
    (tmp_path / "s.toml").write_text(tomli_w.dumps(scenario))
    small = ["--set", "adapter.rank=4", "--set", "training.steps=1", "--set", "training.batch_size=4"]
    small += ["--set", "adapter.blocks=0"]
    options = [*small, "--out", tmp_path / "out"]
    status, text, error = call(monkeypatch, capsys, "run", tmp_path / "s.toml", *options)
    assert status == 0, error
    assert "client 1 starts from" in text
    assert "42 linears, taken up exactly" in " ".join(text.split())
    runtime = runtime_of(tmp_path / "out")
    trained = runtime_of(runs["fedavg"]).states.store(1).load(old.rounds)
    start = runtime.adapters.start(runtime.assets.settings.scenario.client(1))
    for slot in runtime.assets.method.slots:
        for name, tensor in trained.slots["shared"].items():
            assert torch.equal(start.slots[slot.name][name], tensor)
    expected = ClientNode(runtime_of(runs["fedavg"]), 1).score(old.rounds, ["Odd-0"], count=0)
    assert ClientNode(runtime, 1).evaluate(0, others=False, count=0) == expected

    monkeypatch.setattr(alignment, "make_alignment", lambda *_, **__: pytest.fail("refuse first: it takes minutes"))
    wrong = ["--set", "adapter.rank=2", "--set", "adapter.blocks=2"]
    status, _, error = call(monkeypatch, capsys, "run", tmp_path / "s.toml", *small, *wrong)
    assert status == 2
    assert "set adapter.rank=4" in error


@torch.no_grad()
def test_a_mixture_with_colora_comes_back_whole(monkeypatch, capsys, tmp_path, runs):
    """Every method's export is a start: FedMosaic's has twice a slot's rank in some layers and a bias in others."""
    folder = tmp_path / "lora"
    call(monkeypatch, capsys, "export", runs["fedmosaic"], "--client", 1, "--as", "lora", "--out", folder)
    assert "start" in (folder / "README.md").read_text()
    old = runtime_of(runs["fedmosaic"])
    clients = [spec.model_dump(mode="json") for spec in old.assets.settings.scenario.clients[:2]]
    clients[1]["start"] = str(folder)
    scenario = old.assets.settings.scenario.model_copy(update={"settings": {}}).model_dump(mode="json") | {
        "clients": clients
    }
    settings = resolve(Scenario.model_validate(scenario), method="fedmosaic", rounds=1)
    settings = settings.model_copy(update={"adapter": old.assets.settings.adapter})
    new = Assets(settings, images=old.assets.images)
    adapters, spec = AdapterFactory(new), settings.scenario.client(1)
    assert "slot by slot: local, personal_global" in adapters.imported(spec).summary
    batch = (expected := final_model(old, 1)).base.collate(old.assets.benchmark.task("Odd-0").test[:4])
    adapter = adapters.adapter(spec)
    adapters.start(spec).load_into(adapter)
    adapter.mix("gate")
    theirs, ours = (base.head(base.hidden_states(batch)) for base in (expected.base, new.pool.model(spec.model)))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
    expected.adapter.detach()
    assert (expected.base.head(expected.base.hidden_states(batch)) - theirs).abs().max() > 1e-2


def test_a_question_is_answered_by_the_clients_own_model(monkeypatch, capsys, run, pictures):
    images = ["--image", pictures[0], "--image", pictures[1]]
    status, text, error = call(monkeypatch, capsys, "ask", run, "--client", 1, *images, QUESTION)
    assert status == 0, error
    model = final_model(runtime_of(run, images=GivenImages(pictures)), 1)
    sample = Sample("x", ("0", "1"), f"<image> <image> {QUESTION}", "?")
    assert [text.strip()] == model.base.answer([sample], max_tokens=32)
    assert text.strip()
    assert call(monkeypatch, capsys, "ask", run, "--client", 0, "what is red and green ?")[0] == 0


def test_questions_that_cannot_be_asked_are_refused(monkeypatch, capsys, tmp_path, run, pictures):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG not really")
    cases = [
        (["--image", tmp_path / "none.png", "what ?"], ["none.png"]),
        (["--image", broken, "what ?"], ["broken.png", "not a readable image"]),
        (["--image", pictures[0], "<image> or <image> ?"], ["2 <image>", "1 image"]),
        (["  "], ["empty"]),
    ]
    for arguments, words in cases:
        status, _, error = call(monkeypatch, capsys, "ask", run, "--client", 0, *arguments)
        assert status == 2
        for word in words:
            assert word in error
        assert "Traceback" not in error
