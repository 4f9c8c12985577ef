"""Slots folded into the weights for a while: the same answers, and nothing left behind."""

import pytest
import torch
from tests.adapters.test_adapter import attach, fill, logits

from fedmosaic.adapters import AdaptedLinear, base_changed, folded_in
from fedmosaic.adapters.folding import FoldedMix
from fedmosaic.errors import ModelError


def adapted(model):
    return sum(isinstance(module, AdaptedLinear) for module in model.modules())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "opt", "t5"])
@pytest.mark.parametrize("weights", ["gate", {"local": 1.0}, {"local": 0.3, "personal_global": 0.7}])
def test_answers_are_the_same_and_the_model_is_restored(make_model, ids, family, weights):
    model = make_model(family)
    adapter = attach(model)
    fill(adapter, "local", "personal_global")
    adapter.load_gate({name: tensor + 0.4 for name, tensor in adapter.gate_tensors().items()})
    adapter.train(False)
    with adapter.mixed(weights):
        expected = logits(model, ids)
    modules, state = dict(model.named_modules()), {name: t.clone() for name, t in model.state_dict().items()}
    with folded_in(adapter, weights):
        assert adapted(model) == 0
        assert torch.allclose(logits(model, ids), expected, atol=1e-5)
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_two_mixes_of_one_adapter_take_turns(make_model, ids):
    model = make_model("llama")
    base = logits(model, ids)
    adapter = attach(model)
    fill(adapter, "local", "personal_global")
    adapter.train(False)
    mixes = ({"local": 1.0}, {"local": 0.3, "personal_global": 0.7})
    both = [FoldedMix(adapter, weights) for weights in mixes]
    for folded, weights in 2 * list(zip(both, mixes, strict=True)):
        with adapter.mixed(weights):
            expected = logits(model, ids)
        with folded.in_place():
            assert adapted(model) == 0
            assert torch.allclose(logits(model, ids), expected, atol=1e-5)
        with adapter.disabled():
            assert torch.equal(logits(model, ids), base)
    adapter.detach()
    with both[0].in_place():
        assert torch.equal(logits(model, ids), base)
    assert torch.equal(logits(model, ids), base)


def test_it_is_restored_after_an_error(make_model):
    model = make_model("llama")
    adapter = attach(model)
    adapter.train(False)
    before = adapted(model)
    with pytest.raises(RuntimeError), folded_in(adapter, "gate"):
        raise RuntimeError
    assert adapted(model) == before > 0


@pytest.mark.parametrize("case", ["token gate", "dropout", "bfloat16", "no slot"])
def test_what_cannot_be_folded_computes_as_it_did(make_model, ids, case):
    model = make_model("llama")
    if case == "bfloat16":
        model = model.bfloat16()
    adapter = attach(model, gate="token" if case == "token gate" else "scalar")
    fill(adapter, "local", "personal_global")
    adapter.train(case == "dropout")
    weights = {} if case == "no slot" else "gate"
    with adapter.mixed(weights):
        expected = logits(model, ids)
    with folded_in(adapter, weights):
        assert adapted(model) > 0
        assert torch.equal(logits(model, ids), expected)


def test_a_changed_base_computes_the_change_and_is_as_before_after_an_error(make_model, ids):
    """The change is one that a slot can hold, so that the slot says what is to be computed."""
    model = make_model("llama")
    adapter = attach(model, blocks=0, gate="none")
    fill(adapter, "local", "personal_global")
    slot, state = adapter.slot_tensors("local"), {name: t.clone() for name, t in model.state_dict().items()}
    changes = {name[:-2]: slot[f"{name[:-1]}B"] @ slot[name] for name in slot if name.endswith(".A")}
    with adapter.mixed({"local": 1.0, "personal_global": 1.0}):
        expected = logits(model, ids)
    adapter.train_only("personal_global")
    with pytest.raises(RuntimeError), base_changed(adapter, changes), adapter.mixed("personal_global"):
        assert torch.allclose(logits(model, ids), expected, atol=1e-5)
        adapter.train(False)
        with folded_in(adapter, "personal_global"):
            assert torch.allclose(logits(model, ids), expected, atol=1e-5)
        model(input_ids=ids, labels=ids).loss.backward()
        raise RuntimeError
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_base_that_is_no_plain_linear_cannot_be_changed(make_model):
    adapter = attach(make_model("gpt2"), blocks=0)
    name = adapter.linears()[0].target.prefix
    with (
        pytest.raises(ModelError, match=r"is a Conv1D .* nothing can be added"),
        base_changed(adapter, {name: torch.ones(1)}),
    ):
        pass
