"""The tower adapter: its formula, what models on one tower share, whose images are whose, and both exports."""

import json

import pytest
import torch
import transformers as tf
from peft import PeftModel
from tests.adapters.conftest import LIKE_LLAMA, VISION

from fedmosaic.adapters import Adapter, Slot, TowerSite, is_shared, is_slot_tensor
from fedmosaic.adapters.export import write_lora, write_origin
from fedmosaic.adapters.merge import merged
from fedmosaic.adapters.start import client_start
from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.models.base import IGNORED, Batch
from fedmosaic.models.interface import find_interface

SLOTS = (Slot("local", communicated=True), Slot("received", communicated=False))
IMAGE = 49


def on_clip(text, *, bias=True, seed=0):
    """A LLaVA on one tower, whatever its language model; another ``seed`` gives another tower."""
    vision = tf.CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14
    )
    torch.manual_seed(1)
    config = tf.LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=IMAGE, multimodal_projector_bias=bias
    )
    model = tf.LlavaForConditionalGeneration(config).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.model.vision_tower.parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    return model


def llama(**how):
    return on_clip(tf.LlamaConfig(**LIKE_LLAMA), **how)


def wide_qwen(**how):
    return on_clip(tf.Qwen2Config(**LIKE_LLAMA | {"hidden_size": 40, "num_hidden_layers": 3}), **how)


def site(model, rank):
    """The model's interface with a random basis, which depends on its sizes alone."""
    interface = find_interface(model)
    draw = torch.Generator().manual_seed(5)
    rows = torch.linalg.qr(torch.randn(interface.features, rank, generator=draw, dtype=torch.float64)).Q.t()
    return TowerSite(interface, rows.float().contiguous())


def attach(model, *, rank=6, filled=(), **settings):
    defaults = {"slots": SLOTS, "rank": 3, "alpha": 5, "blocks": 2, "seed": 0, "architecture": "a"}
    adapter = Adapter.attach(model, model, tower=site(model, rank), **defaults | settings)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for slot in filled:
            for name, parameter in adapter.parameters(slot).items():
                noise = 0.2 * torch.randn(parameter.shape, generator=draw)
                parameter.add_(noise * name.startswith("tower.") if filled == ("received",) else noise)
    return adapter


def tower_of(adapter, slot):
    return {name: tensor for name, tensor in adapter.slot_tensors(slot).items() if name.startswith("tower.")}


def seen(images=2):
    """Two sequences, the first with one picture and the second with the rest, of four tokens each."""
    draw = torch.Generator().manual_seed(2)
    ids = torch.randint(3, 48, (2, 12), generator=draw)
    ids[0, 1:5] = IMAGE
    ids[1, 2 : 2 + 4 * (images - 1)] = IMAGE
    return {"input_ids": ids, "pixel_values": torch.randn(images, 3, 28, 28, generator=draw)}


def started(newcomer, folder):
    """Let a client's adapter, two slots and a gate, start from an export."""
    start = client_start(newcomer, newcomer.slot_tensors("local"), folder, answers_with="gate")
    for name, slot in start.slots.items():
        newcomer.load_slot(name, slot.tensors)
    newcomer.load_gate({**newcomer.gate_tensors(), **start.gates})
    return start


@torch.no_grad()
def logits(model, inputs=None):
    return model(**(inputs or seen())).logits


def shifted(z, site, weights, tensors):
    """z' of the docstring, slot by slot."""
    basis, name = site.basis.to(z), f"tower.{site.interface.tower}"
    moved = z
    for slot, weight in weights.items():
        p, q = (tensors[slot][f"{name}.{letter}"].to(z) for letter in "PQ")
        moved = moved + weight * (z @ basis.t() @ p.t() + q) @ basis
    return moved


@pytest.mark.parametrize("family", VISION, ids=lambda make: make.__name__)
@pytest.mark.parametrize("mix", [{"local": 1.0}, {"local": 0.3, "received": -0.7}, "gate"], ids=str)
@torch.no_grad()
def test_the_projector_reads_the_shifted_features(family, mix):
    torch.manual_seed(0)
    model = family().eval()
    interface = find_interface(model)
    linear = model.get_submodule(interface.path)
    z = torch.randn(3, 5, interface.features)
    adapter = attach(model, filled=("local", "received"), gate="scalar" if mix == "gate" else "none")
    adapter.mix(mix)
    weights = {"local": 0.5, "received": 0.5} if mix == "gate" else mix
    expected = linear(shifted(z, adapter.shape.tower, weights, {s.name: tower_of(adapter, s.name) for s in SLOTS}))
    torch.testing.assert_close(model.get_submodule(interface.path)(z), expected, atol=2e-5, rtol=1e-5)
    adapter.detach()
    assert model.get_submodule(interface.path) is linear


def test_at_the_start_nothing_changes_by_a_bit():
    model = llama()
    before = logits(model)
    attach(model, rank=32)
    assert torch.equal(logits(model), before)


def test_gradients_are_those_of_the_formula():
    model = llama()
    adapter = attach(model, filled=("local", "received"), gate="scalar")
    adapter.mix("gate")
    groups = adapter.train_only("local", gate=True)
    assert [parameter.shape for parameter in groups["tower"]] == [(6, 6), (6,)]
    linear = next(each.linear for each in adapter.linears() if each.linear.kind == "tower")
    z, toward = torch.randn(4, 9, 32), torch.randn(4, 9, 32)
    opened = [linear.P_local, linear.Q_local, linear.gate.beta]
    found = torch.autograd.grad((linear(z) * toward).sum(), opened)
    share = torch.sigmoid(linear.gate.beta)
    tensors = {slot.name: dict(adapter.parameters(slot.name)) for slot in SLOTS}
    moved = shifted(z, adapter.shape.tower, {"local": 1 - share, "received": share}, tensors)
    expected = torch.autograd.grad((linear.base(moved) * toward).sum(), opened)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert linear.P_received.grad is None


def test_training_reaches_it_through_the_whole_model():
    model = llama()
    adapter = attach(model)
    adapter.train_only("local")
    inputs = seen()
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(adapter.parameters("local")[name].grad.abs().max() > 0 for name in tower_of(adapter, "local"))


def test_families_on_one_tower_share_names_and_shapes_and_others_do_not():
    first, second, third = (tower_of(attach(model), "local") for model in (llama(), wide_qwen(), llama(seed=9)))
    assert {name: tensor.shape for name, tensor in first.items()} == {n: t.shape for n, t in second.items()}
    assert all(is_shared(name) and is_slot_tensor(name) for name in first)
    assert not first.keys() & third.keys()
    assert find_interface(llama()).tower == find_interface(llama().to(torch.bfloat16)).tower


def test_what_one_family_has_learned_shifts_the_features_of_another():
    source, target = attach(llama(), filled=("local",)), wide_qwen()
    learned = tower_of(source, "local")
    where = source.shape.tower
    hook = target.get_submodule(where.interface.path).register_forward_pre_hook(
        lambda _, inputs: (shifted(inputs[0], where, {"local": 1.0}, {"local": learned}),)
    )
    expected = logits(target)
    hook.remove()
    plain = logits(target)
    adapter = attach(target)
    adapter.load_slot("local", {**adapter.slot_tensors("local"), **learned})
    torch.testing.assert_close(logits(target), expected, atol=1e-5, rtol=1e-4)
    assert (plain - expected).abs().max() > 1e-3


def test_text_models_have_no_interface(make_model):
    assert find_interface(make_model("llama")) is None


# ---- weights that differ between samples


@torch.no_grad()
def test_each_samples_weights_count_for_its_own_pictures():
    model = llama()
    adapter = attach(model, filled=("local", "received"))
    inputs = seen(images=3)
    weights = {"local": torch.tensor([1.0, 0.2]), "received": torch.tensor([0.0, 0.9])}
    ids = inputs["input_ids"]
    batch = Batch(ids, torch.ones_like(ids), torch.full_like(ids, IGNORED), slot_weights=weights)
    with adapter.reading(batch):
        found = logits(model, inputs)
    for row, pictures in ((0, slice(0, 1)), (1, slice(1, 3))):
        with adapter.mixed({slot: float(own[row]) for slot, own in weights.items()}):
            alone = {"input_ids": ids[row : row + 1], "pixel_values": inputs["pixel_values"][pictures]}
            torch.testing.assert_close(found[row : row + 1], logits(model, alone), atol=1e-5, rtol=1e-4)
    with adapter.mixed_by_sample(weights), pytest.raises(SettingsError, match="projector reads 12 rows"):
        logits(model, inputs)


@pytest.mark.parametrize("gate", ["sample", "token"])
def test_a_gate_that_reads_its_input_is_one_number_here(gate, tmp_path):
    model = llama()
    adapter = attach(model, filled=("local", "received"), gate=gate)
    name = adapter.interface.tower
    assert adapter.gate_tensors()[f"tower.{name}.beta"].shape == ()
    inputs = seen()
    with adapter.prompt(torch.ones_like(inputs["input_ids"])):
        before = logits(model, inputs)
        with torch.no_grad():
            adapter.named_groups()["gate"][f"gate/tower.{name}.beta"].fill_(3.0)
        assert (logits(model, inputs) - before).abs().max() > 1e-4
    with pytest.raises(ModelError, match=f"a {gate} gate"):
        write_lora(adapter, tmp_path / "out", base_model="somewhere")


# ---- taken away


@pytest.mark.parametrize("make", [llama, wide_qwen])
@pytest.mark.parametrize("rank", [6, 32])
def test_peft_computes_what_the_client_computes(make, rank, tmp_path):
    model = make()
    adapter = attach(model, rank=rank, filled=("local", "received"), gate="scalar")
    expected = logits(model)
    with adapter.mixed({"local": 1.0}):
        assert (logits(model) - expected).abs().max() > 1e-3
    write_lora(adapter, tmp_path, base_model="somewhere")
    theirs = PeftModel.from_pretrained(make(), tmp_path)
    torch.testing.assert_close(logits(theirs), expected, atol=1e-5, rtol=1e-4)
    assert find_interface(make()).path in json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]


@pytest.mark.parametrize("bias", [True, False])
def test_merged_weights_compute_what_the_client_computes(bias):
    model = llama(bias=bias)
    adapter = attach(model, filled=("local", "received"), gate="scalar")
    expected = logits(model)
    changes, config = merged(adapter, model)
    adapter.detach()
    new = type(model)(config).eval()
    assert not new.load_state_dict({**model.state_dict(), **changes}, strict=False).unexpected_keys
    torch.testing.assert_close(logits(new), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rank", [6, 32])
def test_a_client_starts_from_what_was_exported(rank, tmp_path):
    """With more ranks than the projector has outputs P is not determined; what it computes is."""
    model = llama()
    adapter = attach(model, rank=rank, filled=("local", "received"), gate="scalar")
    expected = logits(model)
    write_lora(adapter, tmp_path, base_model="somewhere")
    write_origin(adapter, tmp_path, base_model="somewhere")
    again = llama()
    start = started(attach(again, rank=rank, gate="scalar"), tmp_path)
    assert start.retained == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(logits(again), expected, atol=1e-5, rtol=1e-4)
