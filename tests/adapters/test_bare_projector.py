"""A tower adapter where the projector multiplies by a bare parameter (Gemma 3): P alone, and both exports exact."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
import transformers as tf
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.adapters.conftest import LIKE_LLAMA
from tests.adapters.test_tower import attach, logits, seen, shifted, started, tower_of

from fedmosaic.adapters.adding import add_lora
from fedmosaic.adapters.export import write_lora, write_origin
from fedmosaic.adapters.merge import merged
from fedmosaic.adapters.start import client_start
from fedmosaic.errors import ModelError
from fedmosaic.models.cost import _entry_cost
from fedmosaic.models.fingerprint import architecture_name, parameters_digest
from fedmosaic.models.interface import find_interface
from fedmosaic.models.parameter_linear import LINEAR, PARAMETER, give_linear

PROJECTOR = "model.multi_modal_projector"


def stock():
    vision = tf.SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, image_size=28, patch_size=7
    )
    text = {**LIKE_LLAMA, "head_dim": 8}
    torch.manual_seed(1)
    config = tf.Gemma3Config(
        text_config=text, vision_config=vision, image_token_index=49, image_token_id=49, mm_tokens_per_image=4
    )
    model = tf.Gemma3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.parameters():
            parameter.normal_(std=0.2)  # transformers starts the projection with zeros
    return model


def gemma():
    model = stock()
    give_linear(model)
    model.requires_grad_(False)
    return model


def test_nothing_is_other_than_before():
    before, after = stock(), gemma()
    assert list(after.state_dict()) == list(before.state_dict())
    assert parameters_digest(after.named_parameters(), "") == parameters_digest(before.named_parameters(), "")
    assert architecture_name(after) == architecture_name(before)
    assert torch.equal(logits(after), logits(before))
    give_linear(after)
    assert torch.equal(logits(after), logits(before))


def test_without_a_linear_it_is_refused():
    with pytest.raises(ModelError, match=r"Gemma3ForConditionalGeneration has no projector.*adapter\.tower_rank=0"):
        find_interface(stock())


@torch.no_grad()
def test_a_copy_and_a_change_of_type_compute_with_their_own_parameter():
    model = gemma()
    other = copy.deepcopy(model)
    other.get_parameter(f"{PROJECTOR}.{PARAMETER}").mul_(2)
    linears = [each.get_submodule(f"{PROJECTOR}.{LINEAR}") for each in (model, other)]
    z = torch.randn(3, 32)
    torch.testing.assert_close(linears[1](z), 2 * linears[0](z))
    assert model.to(torch.bfloat16).get_submodule(f"{PROJECTOR}.{LINEAR}")(z.bfloat16()).dtype == torch.bfloat16


def test_the_space_depends_on_all_that_stands_before_the_weight_and_not_on_it():
    spaces = []
    for name in (PARAMETER, "mm_soft_emb_norm.weight"):
        model = gemma()
        with torch.no_grad():
            model.get_parameter(f"{PROJECTOR}.{name}").add_(1)
        spaces.append(find_interface(model).tower)
    pooled = gemma()
    pooled.config.mm_tokens_per_image = 16
    spaces.append(find_interface(pooled).tower)
    own = find_interface(gemma()).tower
    assert [space == own for space in spaces] == [True, False, False]


@torch.no_grad()
def test_it_computes_the_formula():
    model = gemma()
    adapter = attach(model, filled=("local", "received"))
    adapter.mix(weights := {"local": 0.3, "received": -0.7})
    linear = model.get_submodule(f"{PROJECTOR}.{LINEAR}")
    z = torch.randn(3, 5, 32)
    tensors = {slot: tower_of(adapter, slot) for slot in weights}
    expected = shifted(z, adapter.shape.tower, weights, tensors) @ model.get_parameter(f"{PROJECTOR}.{PARAMETER}")
    torch.testing.assert_close(linear(z), expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_weights_in_bfloat16_carry_it_too():
    model = gemma().to(torch.bfloat16)
    adapter = attach(model, filled=("local",))
    linear = next(each.linear for each in adapter.linears() if each.linear.kind == "tower")
    weight = model.get_parameter(f"{PROJECTOR}.{PARAMETER}")
    torch.testing.assert_close(linear.B, weight.float().t() @ adapter.shape.tower.basis.t())
    inputs = {**seen(), "pixel_values": seen()["pixel_values"].bfloat16()}
    moved = logits(model, inputs)
    adapter.detach()
    assert (moved - logits(model, inputs)).abs().max() > 1e-2


def trained():
    """A model, and its adapter as training leaves it: P and all others are moved, and Q, which cannot be, is not."""
    model = gemma()
    adapter = attach(model, gate="scalar")
    torch.manual_seed(3)
    with torch.no_grad():
        for group in adapter.named_groups().values():
            for parameter in group.values():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model, adapter


def test_training_moves_p_and_leaves_q():
    model = gemma()
    adapter = attach(model)
    groups = adapter.train_only("local")
    assert [parameter.shape for parameter in groups["tower"]] == [(6, 6)]
    inputs = seen()
    model(**inputs, labels=inputs["input_ids"], token_type_ids=torch.zeros_like(inputs["input_ids"])).loss.backward()
    gradients = {name[-1]: each.grad for name, each in adapter.parameters("local").items() if "tower" in name}
    assert gradients["P"].abs().max() > 0
    assert gradients["Q"] is None


def test_peft_computes_what_the_client_computes(tmp_path):
    model, adapter = trained()
    expected = logits(model)
    write_lora(adapter, tmp_path, base_model="somewhere")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] == [PROJECTOR]
    theirs = PeftModel.from_pretrained(stock(), tmp_path)
    assert (logits(stock()) - expected).abs().max() > 1e-3
    torch.testing.assert_close(logits(theirs), expected, atol=1e-5, rtol=1e-4)


def test_it_is_added_to_the_weights_of_a_loaded_model(tmp_path):
    model, adapter = trained()
    expected = logits(model)
    write_lora(adapter, tmp_path, base_model="somewhere")
    plain = gemma()
    add_lora(plain, tmp_path)
    torch.testing.assert_close(logits(plain), expected, atol=1e-5, rtol=1e-4)


def test_a_client_starts_from_what_was_exported(tmp_path):
    model, adapter = trained()
    expected = logits(model)
    write_lora(adapter, tmp_path, base_model="somewhere")
    write_origin(adapter, tmp_path, base_model="somewhere")
    again = gemma()
    start = started(attach(again, gate="scalar"), tmp_path)
    assert start.retained == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(logits(again), expected, atol=1e-5, rtol=1e-4)


def test_merged_weights_compute_what_the_client_computes():
    model, adapter = trained()
    with torch.no_grad():
        for name, parameter in adapter.named_groups()["colora"].items():
            if name.endswith(".Q"):  # Gemma's decoder has no bias for it
                parameter.zero_()
    expected = logits(model)
    changes, config = merged(adapter, model)
    assert f"{PROJECTOR}.{PARAMETER}" in changes
    adapter.detach()
    new = stock()
    new.load_state_dict({**new.state_dict(), **changes})
    assert config is None
    torch.testing.assert_close(logits(new), expected, atol=1e-5, rtol=1e-4)


def test_an_offset_from_elsewhere_is_refused_before_anything_is_written(tmp_path):
    model, adapter = trained()
    name = f"tower.{adapter.interface.tower}.Q"
    tensors = adapter.slot_tensors("local")
    adapter.load_slot("local", {**tensors, name: torch.ones_like(tensors[name])})
    with pytest.raises(
        ModelError, match=r"mm_input_projection_weight is a parameter without a bias.*align_towers=false"
    ):
        write_lora(adapter, tmp_path / "out", base_model="somewhere")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match=r"align_towers=false"):
        merged(adapter, model)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mm_soft_emb_norm.weight": 1.0}, r"are not those of this model but for mm_input_projection_weight"),
        ({PARAMETER: float("nan")}, r"not finite"),
    ],
)
def test_a_saved_projector_of_another_model_or_with_broken_numbers_is_no_start(change, told, tmp_path):
    _, adapter = trained()
    write_lora(adapter, tmp_path, base_model="somewhere")
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    for name, added in change.items():
        tensors[f"base_model.model.{PROJECTOR}.{name}"] += added
    save_file(tensors, path)
    newcomer = attach(gemma(), gate="scalar")
    with pytest.raises(ModelError, match=told):
        client_start(newcomer, newcomer.slot_tensors("local"), tmp_path, answers_with="gate")
    with pytest.raises(ModelError, match=r"modules_to_save.*plain LoRA"):
        add_lora(stock(), tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "modules_to_save": [["lm_head"]]}))
    with pytest.raises(ModelError, match=r"modules_to_save.*plain LoRA"):
        add_lora(gemma(), tmp_path)


def test_the_bare_weight_is_no_further_linear_on_the_way_back():
    """Below the adapter nothing needs a gradient, and behind it the projector has nothing."""
    model = gemma()
    adapter = attach(model)
    linear = next(each.linear for each in adapter.linears() if each.linear.kind == "tower")
    holder = SimpleNamespace(adapter=adapter, module=model)
    assert _entry_cost(holder) == linear.entry_multiply_adds()
