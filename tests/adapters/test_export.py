"""Exported adapters loaded by PEFT and transformers themselves: the same logits, or a clear refusal."""

import copy
import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.adapters.export import lora_config, write_lora
from fedmosaic.adapters.layer import Folded
from fedmosaic.adapters.merge import merged
from fedmosaic.errors import ModelError

SLOTS = (Slot("local", communicated=True), Slot("personal_global", communicated=False))
MIXES = ["gate", {"local": 1.0}, {"local": 0.3, "personal_global": -0.7}]


def trained(model, *, blocks=2, gate="scalar", mix="gate", alpha=5.0, **shape):
    """An adapter on the model all of whose weights are random, as after training."""
    adapter = Adapter.attach(
        model, model, slots=SLOTS, rank=3, alpha=alpha, blocks=blocks, gate=gate, seed=0, architecture="a", **shape
    )
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for group in adapter.named_groups().values():
            for parameter in group.values():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype))
    adapter.mix(mix)
    return adapter


def inputs(family, ids):
    """What the family's model reads; LLaVA sees an image, too."""
    if family != "llava":
        return {"input_ids": ids}
    ids = torch.cat([torch.full((2, 4), 49), ids], 1)
    return {"input_ids": ids, "pixel_values": torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(4))}


@torch.no_grad()
def logits(model, family, ids):
    return model(**inputs(family, ids)).logits


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "gpt_neox", "opt", "gpt2", "mixtral", "llava"])
def test_peft_computes_what_the_client_computes(make_model, ids, tmp_path, family):
    model = make_model(family)
    adapter = trained(model)
    write_lora(adapter, tmp_path, base_model="somewhere")
    expected = logits(model, family, ids)
    theirs = PeftModel.from_pretrained(make_model(family), tmp_path)
    close(logits(theirs, family, ids), expected)
    with adapter.disabled():
        assert not torch.allclose(logits(model, family, ids), expected, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("mix", MIXES, ids=["gate", "one slot", "fixed weights"])
@pytest.mark.parametrize("blocks", [0, 2, 4])
def test_every_mix_and_placement_is_exact(make_model, ids, tmp_path, mix, blocks):
    model = make_model("llama")
    write_lora(trained(model, blocks=blocks, mix=mix), tmp_path, base_model="somewhere")
    theirs = PeftModel.from_pretrained(make_model("llama"), tmp_path)
    close(logits(theirs, "llama", ids), logits(model, "llama", ids))


def test_some_projections_only_and_a_crooked_alpha(make_model, ids, tmp_path):
    model = make_model("llava")
    write_lora(trained(model, modules={"q_proj", "down_proj"}, alpha=2.5), tmp_path, base_model="somewhere")
    theirs = PeftModel.from_pretrained(make_model("llava"), tmp_path)
    close(logits(theirs, "llava", ids), logits(model, "llava", ids))
    adapted = {name for name, module in theirs.named_modules() if hasattr(module, "lora_A")}
    assert len(adapted) == 8  # the vision tower has a q_proj in each layer, too


def test_a_plain_slot_is_written_as_the_plain_lora_that_it_is(make_model, tmp_path):
    adapter = trained(make_model("llama"), blocks=0, mix={"local": 1.0}, alpha=6)
    write_lora(adapter, tmp_path, base_model="somewhere", task_type="CAUSAL_LM")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_bias"]) == (3, 6, False)
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    assert (config["base_model_name_or_path"], config["task_type"]) == ("somewhere", "CAUSAL_LM")
    written = load_file(tmp_path / "adapter_model.safetensors")
    own = adapter.slot_tensors("local")
    assert len(written) == len(own)
    assert torch.equal(written["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"], own["layer.1.up_proj.A"])


def test_patterns_name_whole_paths():
    """Layer 1's pattern must not take layer 11 for its own, nor a dot for any character."""
    branch = Folded(torch.ones(2, 4), torch.ones(4, 2), None, 2.0)
    odd = Folded(torch.ones(3, 4), torch.ones(4, 3), None, 2.0)
    config = lora_config({"layers.1.q": odd, "layers.11.q": branch, "layers.2.q": branch})
    assert config["rank_pattern"] == {r"layers\.1\.q": 3}
    assert config["alpha_pattern"] == {r"layers\.1\.q": 6}
    assert (config["r"], config["lora_alpha"]) == (2, 4)


@pytest.mark.parametrize("gate", ["sample", "token"])
def test_gates_that_depend_on_the_input_are_refused_but_their_slots_are_not(make_model, ids, tmp_path, gate):
    model = make_model("llama")
    adapter = trained(model, gate=gate)
    with pytest.raises(ModelError, match=f"a {gate} gate.*gate=scalar"):
        write_lora(adapter, tmp_path / "out", base_model="somewhere")
    assert not (tmp_path / "out").exists()
    adapter.mix({"local": 1.0})
    write_lora(adapter, tmp_path, base_model="somewhere")
    theirs = PeftModel.from_pretrained(make_model("llama"), tmp_path)
    close(logits(theirs, "llama", ids), logits(model, "llama", ids))


def test_nothing_in_use_is_refused(make_model, tmp_path):
    adapter = trained(make_model("llama"), mix={})
    with pytest.raises(ModelError, match="no slot is in use"):
        write_lora(adapter, tmp_path, base_model="somewhere")


# ---- merged


def reloaded(model, changes, config):
    """The model with changed weights, made anew from its configuration."""
    new = type(model)(config or model.config).eval()
    missing, unexpected = new.load_state_dict({**model.state_dict(), **changes}, strict=False)
    assert not unexpected
    assert all(name in model.all_tied_weights_keys for name in missing)
    return new


@pytest.mark.parametrize("family", ["llama", "opt", "gpt_neox", "gpt2", "llava"])
def test_merged_weights_compute_what_the_client_computes(make_model, ids, family):
    """Llama's linears have no bias, but its settings can give them one."""
    model = make_model(family)
    before = copy.deepcopy(model.state_dict())
    adapter = trained(model)
    expected = logits(model, family, ids)
    changes, config = merged(adapter, model)
    adapter.detach()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    close(logits(reloaded(model, changes, config), family, ids), expected)
    assert (config is not None) == (family in ("llama", "llava"))


@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
def test_an_offset_without_a_bias_to_go_to_is_refused(make_model, ids, family):
    model = make_model(family)
    adapter = trained(model)
    with pytest.raises(ModelError, match=r"no bias at .*_proj.*--as lora"):
        merged(adapter, model)
    with torch.no_grad():
        for name, parameter in adapter.named_groups()["colora"].items():
            if name.endswith(".Q"):
                parameter.zero_()
    expected = logits(model, family, ids)
    changes, config = merged(adapter, model)
    assert config is None
    adapter.detach()
    close(logits(reloaded(model, changes, config), family, ids), expected)


def test_merging_keeps_the_dtype_and_refuses_a_quantised_base(make_model):
    model = make_model("opt").to(torch.bfloat16)
    changes, _ = merged(trained(model), model)
    assert {tensor.dtype for tensor in changes.values()} == {torch.bfloat16}

    class Packed(nn.Module):
        in_features, out_features = 32, 32

    model = make_model("llama")
    model.model.layers[0].self_attn.q_proj = Packed()
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.q_proj is a Packed.*--as lora"):
        merged(trained(model), model)
