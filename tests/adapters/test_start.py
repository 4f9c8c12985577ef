"""A LoRA made by PEFT as the start of a slot: exact where it can be, projected in Co-LoRA layers, or refused."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.adapters.export import write_lora, write_origin
from fedmosaic.adapters.start import client_start, read_lora, starting_slot
from fedmosaic.errors import ModelError

MODULES = ["q_proj", "up_proj", "down_proj"]


def attach(model, **settings):
    defaults = {"slots": [Slot("local", communicated=True)], "rank": 4, "alpha": 6, "seed": 0, "architecture": "a"}
    return Adapter.attach(model, model, **defaults | settings)


def peft_lora(model, folder, **settings):
    """Save a LoRA of random weights with PEFT, and return the model with it."""
    config = LoraConfig(**{"r": 3, "lora_alpha": 7, "target_modules": MODULES} | settings)
    theirs = get_peft_model(model, config).eval()
    torch.manual_seed(1)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(folder)
    return theirs


def imported(adapter, folder):
    start = starting_slot(adapter, adapter.slot_tensors("local"), folder)
    adapter.load_slot("local", start.tensors)
    return start


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"r": 4},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 11, "q_proj": 3}},
        {"target_modules": ["v_proj"], "layers_to_transform": [1]},
    ],
    ids=["smaller rank", "same rank", "rslora", "patterns", "few linears"],
)
@torch.no_grad()
def test_conventional_layers_take_it_up_exactly(make_model, ids, tmp_path, settings):
    expected = peft_lora(make_model("llama"), tmp_path, **settings)(input_ids=ids).logits
    model = make_model("llama")
    plain = model(input_ids=ids).logits
    start = imported(attach(model), tmp_path)
    torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-5, rtol=0)
    assert (expected - plain).abs().max() > 1e-3
    assert start.retained == 1


def test_free_ranks_can_still_learn(make_model, ids, tmp_path):
    peft_lora(make_model("llama"), tmp_path)
    model = make_model("llama")
    adapter = attach(model)
    imported(adapter, tmp_path)
    adapter.train_only("local")
    model(input_ids=ids, labels=ids).loss.backward()
    up = adapter.linears()[0].linear.slot("local")["B"]
    assert (up[:, 3] == 0).all()
    assert up.grad[:, 3].abs().max() > 0


@torch.no_grad()
def test_colora_layers_hold_the_nearest_update_of_their_form(make_model, tmp_path):
    """Against a dense least-squares fit of P in ``scale * B P A``."""
    peft_lora(make_model("llama"), tmp_path)
    adapter = attach(make_model("llama"), blocks=2)
    basis = {name: tensor + 0.05 * torch.randn(tensor.shape) for name, tensor in adapter.colora_shared().items()}
    adapter.load_basis(basis)  # as alignment may leave them: not orthonormal
    start = imported(adapter, tmp_path)
    branches = read_lora(tmp_path, {})
    total = left = 0.0
    for adapted in adapter.linears():
        if adapted.target.block is None or adapted.path not in branches:
            continue
        branch, layer = branches[adapted.path], adapted.linear
        wanted = branch.scale * branch.up @ branch.down
        design = layer.scale * torch.kron(layer.B.double(), layer.A.double().t().contiguous())
        fit = torch.linalg.lstsq(design, wanted.reshape(-1, 1)).solution.view(4, 4)
        torch.testing.assert_close(start.tensors[f"{adapted.target.prefix}.P"].double(), fit, atol=1e-6, rtol=1e-5)
        total += wanted.square().sum()
        left += (wanted - (design @ fit.view(-1)).view_as(wanted)).square().sum()
    assert start.retained == pytest.approx(float(1 - left / total), abs=1e-6)
    assert 0 < start.retained < 0.5


@torch.no_grad()
def test_what_colora_wrote_comes_back_whole(make_model, ids, tmp_path):
    """Its update is of the form B P A, and its offset of the form B Q."""
    model = make_model("llama")
    adapter = attach(model, blocks=4)
    tensors = {name: 0.3 * torch.randn(tensor.shape) for name, tensor in adapter.slot_tensors("local").items()}
    adapter.load_slot("local", tensors)
    write_lora(adapter, tmp_path, base_model="x")
    start = starting_slot(adapter, {name: torch.zeros_like(t) for name, t in tensors.items()}, tmp_path)
    assert start.retained == pytest.approx(1, abs=1e-5)
    for name, tensor in tensors.items():
        torch.testing.assert_close(start.tensors[name], tensor, atol=1e-5, rtol=1e-5)


MIXTURES = {
    "gate": {"gate": "scalar"},
    "fixed": {"mix": {"local": 0.25, "other": 0.75}},
    "one of two": {"mix": {"other": 1.0}},
}


def exported(make_model, folder, *, mix=None, gate="none", blocks=2):
    """Write a client's LoRA as ``fedmosaic export`` does, and return its model with it."""
    model = make_model("llama")
    adapter = attach(model, slots=[Slot("local", True), Slot("other", False)], gate=gate, blocks=blocks)
    torch.manual_seed(1)
    for group in adapter.named_groups().values():
        for parameter in group.values():
            torch.nn.init.normal_(parameter, std=0.3)
    adapter.mix(mix or "gate")
    write_lora(adapter, folder, base_model="x")
    write_origin(adapter, folder, base_model="x")
    return model, adapter


def started(make_model, folder, mix, **settings):
    """A client that starts with a LoRA, and what it says of it."""
    model = make_model("llama")
    adapter = attach(model, slots=[Slot("local", True), Slot("other", False)], **settings)
    start = client_start(adapter, adapter.slot_tensors("local"), folder, answers_with=mix or "gate")
    for name, slot in start.slots.items():
        adapter.load_slot(name, slot.tensors)
    adapter.load_gate(adapter.gate_tensors() | start.gates)
    adapter.mix(mix or "gate")
    return model, start


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("blocks", [0, 2, 4])
@torch.no_grad()
def test_what_a_client_exports_is_a_start_that_answers_the_same(make_model, ids, tmp_path, kind, blocks):
    """With the same settings; the mixture's rank is twice a slot's, and Co-LoRA's Q is its bias."""
    settings = MIXTURES[kind] | {"blocks": blocks}
    model, _ = exported(make_model, tmp_path, **settings)
    mix = settings.pop("mix", None)
    again, start = started(make_model, tmp_path, mix, **settings)
    expected = model(input_ids=ids).logits
    assert (expected - make_model("llama")(input_ids=ids).logits).abs().max() > 1e-2
    torch.testing.assert_close(again(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-5)
    assert start.retained == pytest.approx(1, abs=1e-6)
    assert "exactly" in start.summary
    assert start.apart == (kind != "one of two" and blocks < 4)


@torch.no_grad()
def test_without_colora_a_larger_rank_takes_up_a_mixture_in_every_slot(make_model, ids, tmp_path):
    model, _ = exported(make_model, tmp_path, gate="scalar", blocks=0)
    again, start = started(make_model, tmp_path, {"local": 0.5, "other": 0.5}, rank=8, blocks=0)
    torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5, rtol=1e-5)
    assert not start.apart


@torch.no_grad()
def test_bases_that_are_not_the_ones_it_was_made_with_are_measured(make_model, tmp_path):
    """What is lost of Q counts, too."""
    _, adapter = exported(make_model, tmp_path, gate="scalar")
    for name, parameter in adapter.named_groups()["colora"].items():
        parameter.mul_(0 if name.endswith(".P") else 1)
    write_lora(adapter, tmp_path, base_model="x")
    write_origin(adapter, tmp_path, base_model="x")
    _, start = started(make_model, tmp_path, None, gate="scalar", blocks=2, seed=5)
    assert start.apart
    assert start.retained < 0.6
    assert "%" in start.summary


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 0, "rank": 8, "gate": "scalar"}, "lora_bias"),
        ({"blocks": 2, "mix": {"local": 1.0}}, "its rank is 8, but adapter.rank is 4"),
        ({"blocks": 2, "rank": 3, "gate": "scalar"}, "its rank is 8, but adapter.rank is 3"),
    ],
)
def test_a_start_that_cannot_be_says_what_it_was_made_with(make_model, tmp_path, settings, message):
    exported(make_model, tmp_path, gate="scalar")
    mix = settings.get("mix")
    with pytest.raises(ModelError, match=r"made|exported") as caught:
        started(make_model, tmp_path, mix, **{name: value for name, value in settings.items() if name != "mix"})
    assert message in str(caught.value)
    for words in ("adapter.rank=4, adapter.blocks=2", "'gate'", "--as merged"):
        assert words in str(caught.value)


def test_the_parts_of_a_lora_that_was_trained_further_are_not_used(make_model, tmp_path):
    exported(make_model, tmp_path, gate="scalar")
    weights = tmp_path / "adapter_model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(ModelError, match=r"set adapter\.rank=8 or more$"):
        started(make_model, tmp_path, None, gate="scalar", blocks=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 8}, r"rank is 8, but adapter\.rank is 4; set adapter\.rank=8"),
        ({"target_modules": ["lm_head"]}, r"lm_head.*is not part of a LoRA of linears"),
        ({"lora_bias": True}, r"lora_bias"),
        ({"use_dora": True}, r"use_dora"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save"),
        ({"init_lora_weights": "pissa"}, r"init_lora_weights = 'pissa'"),
    ],
)
def test_what_does_not_fit_is_refused(make_model, tmp_path, settings, message):
    peft_lora(make_model("llama"), tmp_path, **settings)
    with pytest.raises(ModelError, match=message):
        imported(attach(make_model("llama")), tmp_path)


def test_linears_without_an_adapter_are_refused(make_model, tmp_path):
    peft_lora(make_model("llama"), tmp_path)
    with pytest.raises(ModelError, match=r"_proj, which has no adapter.*nearest: .*8 of its 12 linears do not fit"):
        imported(attach(make_model("llama"), modules={"q_proj"}), tmp_path)


def test_another_base_model_is_refused(make_model, tmp_path):
    peft_lora(make_model("wide_llama"), tmp_path, layers_to_transform=[0])
    with pytest.raises(ModelError, match=r"down_proj is 48 -> 64 there, but 48 -> 32 in this model"):
        imported(attach(make_model("llama")), tmp_path)


def test_damaged_folders_are_refused(make_model, tmp_path):
    def refused(message):
        with pytest.raises(ModelError, match=message):
            read_lora(tmp_path, {})

    refused("no PEFT LoRA folder")
    peft_lora(make_model("llama"), tmp_path)
    weights, config = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    whole, settings = load_file(weights), json.loads(config.read_text())
    first = next(iter(whole))
    save_file({**whole, first: whole[first] * float("nan")}, weights)
    refused("not finite")
    save_file({**whole, first: whole[first][:1]}, weights)
    refused(r"expected lora_A \(r, in\)")
    save_file({**whole, "base_model.model.x.lora_magnitude_vector": whole[first].clone()}, weights)
    refused("lora_magnitude_vector")
    save_file({name: tensor for name, tensor in whole.items() if name != first}, weights)
    refused(r"expected lora_A \(r, in\)")
    weights.write_bytes(weights.read_bytes()[:100])
    refused("damaged")
    weights.rename(tmp_path / "adapter_model.bin")
    refused("adapter_model.bin is not safe")
    config.write_text(json.dumps({**settings, "peft_type": "IA3"}))
    refused("peft_type is 'IA3'")
    for damaged in ("{", "[" * 10**5):
        config.write_text(damaged)
        refused("cannot be read")
