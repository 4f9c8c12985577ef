"""Devices and precision: what ``auto`` takes, one line for what cannot be, and settings that change memory only."""

import json
from hashlib import blake2b

import pytest
import torch
from torch import nn

from fedmosaic import training
from fedmosaic.adapters import Adapter, Slot
from fedmosaic.api.placing import placed, placed_again
from fedmosaic.api.telling import Teller
from fedmosaic.config import Scenario, resolve
from fedmosaic.config.settings import RunSettings, TrainingSettings
from fedmosaic.data.images import GivenImages
from fedmosaic.data.sample import Sample
from fedmosaic.errors import RunError, SettingsError
from fedmosaic.models import device as devices
from fedmosaic.models import load_base_model
from fedmosaic.models.device import check_device, check_dtype, taken, within_memory
from fedmosaic.models.quantised import quantised
from fedmosaic.models.residence import Residence
from fedmosaic.training.optimiser import SlotOptimiser

SCENARIO = Scenario(name="one", clients=[{"id": 0, "model": "tiny-llama", "tasks": ["a"]}])
WORDS = ("red", "blue , and more than that", "a colour", "no")
SAMPLES = [Sample(f"s{i}", (), f"what is {i} " + "very " * i + "?", word) for i, word in enumerate(WORDS)]


@pytest.fixture(scope="module")
def model(home):
    return load_base_model("tiny-llama", images=GivenImages(()), home=home)


@pytest.fixture
def adapter(model):
    torch.manual_seed(0)
    slots = [Slot("local", communicated=False), Slot("shared", communicated=True)]
    made = Adapter.attach(
        model.module, model.decoder, slots=slots, rank=4, alpha=8, blocks=2, gate="scalar", seed=1,
        architecture=model.architecture,
    )  # fmt: skip
    for parameters in made.named_groups().values():
        for parameter in parameters.values():
            nn.init.normal_(parameter, std=0.05)
    model.adapter = made
    yield made
    made.detach()
    model.adapter = None


def with_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "check_device", lambda device: None)
    monkeypatch.setattr("fedmosaic.api.placing.check_single", lambda device: None)
    monkeypatch.setattr("fedmosaic.api.placing.check_device", lambda device: None)
    monkeypatch.setattr("fedmosaic.api.placing.described", lambda device: f"{device} (a card)")


def test_auto_takes_a_card_if_there_is_one_and_says_so(monkeypatch):
    told = []
    assert placed(resolve(SCENARIO), tell=Teller(note=told.append)).device == "cpu"
    with_card(monkeypatch)
    assert placed(resolve(SCENARIO), tell=Teller(note=told.append)).device == "cuda"
    assert told == ["device: cpu", "device: cuda (a card)"]
    assert placed(resolve(SCENARIO, device="cpu"), tell=Teller(note=told.append)).device == "cpu"
    assert len(told) == 2  # nothing to say about what was asked for
    assert placed(resolve(SCENARIO, engine="deployment")).device == "auto"  # each machine takes its own


def test_a_finished_run_is_opened_where_it_was_made_or_where_it_can_be(monkeypatch):
    assert placed_again(resolve(SCENARIO, device="cuda:7")).device == "cpu"
    with pytest.raises(SettingsError, match=r"device='cuda:7' cannot be used here.*this machine has cpu"):
        placed_again(resolve(SCENARIO), "cuda:7")
    assert placed_again(resolve(SCENARIO, device="cpu:0,cpu:1")).device == "cpu:0"
    with pytest.raises(SettingsError, match="names 2 devices"):
        placed_again(resolve(SCENARIO), "cpu:0,cpu:1")
    with_card(monkeypatch)
    assert placed_again(resolve(SCENARIO, device="cpu")).device == "cpu"  # it was made there
    assert placed_again(resolve(SCENARIO, device="cpu"), "auto").device == "cuda"


def test_new_settings_do_not_rename_old_runs():
    """The digest is that of the settings before these existed, until one is used."""
    settings = resolve(SCENARIO, device="cpu")
    table = settings.model_dump(mode="json")
    del table["cohort"]
    for key in ("autocast", "attention", "quantisation", "offload", "feature_cache"):
        del table["model"][key]
    for key in ("micro_batch", "recompute"):
        del table["training"][key]
    del table["evaluation"]["final_samples_per_task"]
    before = blake2b(json.dumps(table, sort_keys=True).encode(), digest_size=8).hexdigest()
    assert settings.digest == before
    assert RunSettings.model_validate(table) == settings  # and their files still load
    digests = {
        resolve(SCENARIO, device="cpu", overrides=[each]).digest
        for each in ("model.attention=eager", "model.offload=true", "training.micro_batch=1", "training.recompute=true")
    }
    assert len(digests | {before}) == 5


def test_a_dtype_that_a_device_lacks_is_one_line_with_those_it_has(monkeypatch):
    check_dtype("cpu", torch.bfloat16)
    monkeypatch.setattr(
        devices, "_lack", lambda device, dtype: "the card has no bfloat16 arithmetic" * (dtype == torch.bfloat16)
    )
    with pytest.raises(SettingsError) as caught:
        check_dtype("cpu", torch.bfloat16)
    assert "model.dtype=bfloat16 cannot be used on cpu" in str(caught.value)
    assert "float16 and float32: set model.dtype=float16" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lack_of_memory_is_one_line_that_says_what_helps():
    with pytest.raises(RunError) as caught, within_memory("cpu", "client 3 trains"):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB.\nGPU 0 has 3 GiB")
    for part in ("client 3 trains", "20 GiB", "micro_batch", "model.dtype", "offload"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="of cpu does not suffice while x is made"), within_memory("cpu", "x is made"):
        torch.empty(2**48)
    with pytest.raises(RuntimeError, match="another reason"), within_memory("cpu", "nothing"):
        raise RuntimeError("another reason")


def test_quantisation_says_what_it_needs(monkeypatch):
    assert quantised("none", "cpu") == {}
    with pytest.raises(SettingsError, match="nf4 needs a CUDA device"):
        quantised("nf4", "cpu")
    monkeypatch.setattr("fedmosaic.models.quantised.installed", lambda library: False)
    with pytest.raises(SettingsError, match="pip install optimum-quanto"):
        quantised("int8", "cpu")
    with pytest.raises(SettingsError, match="exclude each other"):
        resolve(SCENARIO, overrides=["model.offload=true", "model.quantisation=int8"])


def test_names_that_torch_does_not_know_are_refused():
    assert taken("cuda:1") == "cuda:1"
    check_device("auto")
    with pytest.raises(SettingsError, match="--device auto takes what is there"):
        check_device("gpu")


class Moves(list):
    """Writes down what is moved, in place of moving it."""

    def __call__(self, module, device):
        self.append((module, device.type))


class Idle:
    def __init__(self, name):
        self.module = name


def test_only_models_of_the_current_turn_stay_on_the_device():
    moves = Moves()
    residence, (a, b, c) = Residence("cuda", moves), map(Idle, "abc")
    residence.enter(a)
    residence.enter(b)  # a graph of a may be alive
    residence.enter(a)
    assert moves == [("a", "cuda"), ("b", "cuda")]
    residence.turn()
    residence.enter(b)  # is there, so nothing needs to go
    residence.enter(c)
    assert moves[2:] == [("a", "cpu"), ("c", "cuda")]
    residence.turn()
    residence.enter(a)
    assert moves[4:] == [("b", "cpu"), ("c", "cpu"), ("a", "cuda")]


def test_alone_each_model_leaves_when_another_comes():
    moves = Moves()
    residence, (a, b) = Residence("cuda", moves, alone=True), map(Idle, "ab")
    for model in (a, a, b, a):
        residence.enter(model)
    assert moves == [("a", "cuda"), ("a", "cpu"), ("b", "cuda"), ("b", "cpu"), ("a", "cuda")]


def gradients(adapter):
    return {
        name: p.grad.clone()
        for group in adapter.named_groups().values()
        for name, p in group.items()
        if p.grad is not None
    }


def test_layers_computed_again_give_equal_gradients_though_the_mix_has_changed(model, adapter):
    """The backward pass comes when the mix that the forward pass had is no longer in use."""
    found = []
    for again in (False, True):
        adapter.recompute = again
        adapter.train_only("local", gate=True)
        adapter.mix("gate")
        batch = model.collate(SAMPLES)
        with adapter.mixed({"local": 0.3, "shared": 0.7}):
            loss = model.loss(batch)
        with adapter.mixed("shared"):
            loss.backward()
        found.append(gradients(adapter))
        for group in adapter.named_groups().values():
            for parameter in group.values():
                parameter.grad = None
    assert "forward" not in vars(model.decoder.layers[0])
    assert found[0].keys() == found[1].keys() and found[0]
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=0, atol=0)


def test_dropout_draws_the_same_when_a_layer_is_computed_again(model, adapter):
    for each in adapter.linears():
        each.linear.dropout = 0.5
    adapter.train()
    adapter.train_only("local")
    adapter.mix("local")
    found = []
    for again in (False, True):
        adapter.recompute = again
        torch.manual_seed(3)
        model.loss(model.collate(SAMPLES)).backward()
        found.append(gradients(adapter))
        for group in adapter.named_groups().values():
            for parameter in group.values():
                parameter.grad = None
    for name, expected in found[0].items():
        assert torch.equal(found[1][name], expected), name


@pytest.mark.parametrize("size", [1, 3])
def test_parts_of_a_batch_add_up_to_its_gradients(model, adapter, monkeypatch, size):
    """Answers of unlike lengths, so that the mean over tokens is no mean of the parts' means."""
    found = []
    monkeypatch.setattr(SlotOptimiser, "step", lambda self, loss: loss.backward())
    monkeypatch.setattr(SlotOptimiser, "step_on_sum", lambda self, losses: [each.backward() for each in losses])
    for micro in (0, size):
        client = client_on(model, adapter, TrainingSettings(micro_batch=micro))
        client.step(
            training.LocalBatch(SAMPLES, model.collate(SAMPLES)),
            slots=("local",),
            mix="local",
            penalty=lambda each: sum(p.square().sum() for p in each.parameters("local").values()),
        )
        found.append((gradients(adapter), client.meter))
        for group in adapter.named_groups().values():
            for parameter in group.values():
                parameter.grad = None
    (whole, one), (parts, other) = found
    assert whole.keys() == parts.keys() and whole
    for name, expected in whole.items():
        torch.testing.assert_close(parts[name], expected, rtol=0, atol=1e-6)
    assert (one.steps, one.samples) == (other.steps, other.samples) == (1, 4)
    assert other.loss_sum == pytest.approx(one.loss_sum, rel=1e-5)


def client_on(model, adapter, how):
    class Pool:
        def pass_flops(self, *_, **__):
            return 0

    class Resources:
        settings = resolve(SCENARIO).model_copy(update={"training": how})
        pool = Pool()

    return training.Client(SCENARIO.clients[0], adapter, Resources(), 1, base=model)


def test_autocast_takes_the_adapters_products_in_half_precision(home):
    """Weights of the adapter stay float32, and so do their gradients."""
    half = load_base_model("tiny-llama", images=GivenImages(()), home=home, dtype="bfloat16")
    adapter = Adapter.attach(
        half.module,
        half.decoder,
        slots=[Slot("local", communicated=False)],
        rank=4,
        alpha=8,
        seed=1,
        architecture=half.architecture,
    )
    for parameter in adapter.parameters("local").values():
        nn.init.normal_(parameter, std=0.1)
    half.adapter, losses = adapter, {}
    for autocast in (None, True):
        half.autocast = autocast
        adapter.train_only("local")
        losses[autocast] = half.loss(half.collate(SAMPLES))
        losses[autocast].backward()
        assert {p.grad.dtype for p in adapter.parameters("local").values()} == {torch.float32}
    assert losses[None].item() != losses[True].item()
    assert losses[True].item() == pytest.approx(losses[None].item(), rel=0.05)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_computed_as_asked_for(home, model, attention):
    other = load_base_model("tiny-llama", images=GivenImages(()), home=home, attention=attention)
    assert other.module.config.get_text_config()._attn_implementation == attention
    batch = model.collate(SAMPLES)
    with torch.no_grad():
        torch.testing.assert_close(other.loss(batch), model.loss(batch), rtol=1e-4, atol=1e-5)
