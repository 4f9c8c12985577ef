"""The adapter on whole models: on and off, mixes, tensors in and out, training."""

import pytest
import torch
from torch import nn

from fedmosaic.adapters import Adapter, CoLoraLinear, Slot, is_shared
from fedmosaic.errors import ModelError, SettingsError

TWO = (Slot("local", communicated=True), Slot("personal_global", communicated=False))


def attach(model, **settings):
    defaults = {"slots": TWO, "rank": 4, "alpha": 8, "blocks": 2, "gate": "scalar", "seed": 0, "architecture": "tiny"}
    return Adapter.attach(model, settings.pop("decoder", model), **defaults | settings)


def fill(adapter, *slots, seed=0):
    """Put random values into slots (and gates)."""
    draw = torch.Generator().manual_seed(seed)
    for slot in slots:
        tensors = adapter.slot_tensors(slot)
        adapter.load_slot(slot, {name: torch.randn(t.shape, generator=draw) * 0.3 for name, t in tensors.items()})


def logits(model, ids):
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            return model(input_ids=ids, decoder_input_ids=ids).logits
        return model(input_ids=ids).logits


@pytest.mark.parametrize(
    "family", ["llama", "qwen2", "qwen3", "gemma3", "gpt_neox", "opt", "gpt2", "mixtral", "t5", "llava"]
)
def test_every_family_is_adapted_trained_and_restored(make_model, ids, family):
    model = make_model(family)
    modules = dict(model.named_modules())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    base = logits(model, ids)
    adapter = attach(model)
    assert torch.equal(logits(model, ids), base)  # B = 0 and P = Q = 0

    fill(adapter, "personal_global")
    groups = adapter.train_only("local", gate=True)
    frozen = adapter.slot_tensors("personal_global") | adapter.colora_shared()
    optimiser = torch.optim.AdamW([{"params": params} for params in groups.values()], lr=0.05)
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert not torch.equal(logits(model, ids), base)
    after = adapter.slot_tensors("personal_global") | adapter.colora_shared()
    assert all(torch.equal(after[name], tensor) for name, tensor in frozen.items())

    with adapter.disabled():
        assert torch.equal(logits(model, ids), base)
    adapter.detach()
    assert torch.equal(logits(model, ids), base)
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())


def test_in_a_vision_language_model_only_the_decoder_is_adapted(make_model):
    model = make_model("llava")
    adapter = attach(model, decoder=model.model.language_model)
    paths = [adapted.path for adapted in adapter.linears()]
    assert len(paths) == 4 * 7
    assert all(path.startswith("model.language_model.layers.") for path in paths)
    assert all(model.get_submodule(adapted.path) is adapted.linear for adapted in adapter.linears())


def test_colora_sits_at_the_block_ends_only(make_model):
    adapter = attach(make_model("wide_llama"), blocks=3)
    at = {adapted.target.layer for adapted in adapter.linears() if isinstance(adapted.linear, CoLoraLinear)}
    assert at == {1, 3, 5} == set(adapter.placement.ends)


# ---- mixes


def test_mixes_are_exact_and_restored(make_model, ids):
    model = make_model("llama")
    adapter = attach(model)
    fill(adapter, "local", "personal_global")
    gated = logits(model, ids)
    with adapter.mixed({"local": 0.5, "personal_global": 0.5}):
        torch.testing.assert_close(logits(model, ids), gated)  # the gate starts at one half
    with adapter.mixed({"local": 1.0, "personal_global": 0.0}):
        alone = logits(model, ids)
        with adapter.disabled():
            base = logits(model, ids)
        assert torch.equal(logits(model, ids), alone)
    adapter.detach()
    assert torch.equal(logits(model, ids), base)
    adapter.reattach()
    assert torch.equal(logits(model, ids), gated)
    adapter.mix({"local": 1.0})
    assert torch.equal(logits(model, ids), alone)
    assert not torch.allclose(alone, gated)


@pytest.mark.parametrize("gated", [None, ("personal_global", "local")])
def test_the_gate_gives_g_to_the_second_slot_of_the_pair(make_model, ids, gated):
    model = make_model("llama")
    adapter = attach(model, gated=gated)
    fill(adapter, "local", "personal_global")
    adapter.load_gate({name: torch.full_like(beta, 0.7) for name, beta in adapter.gate_tensors().items()})
    found = logits(model, ids)
    first, second = gated or ("local", "personal_global")
    g = torch.sigmoid(torch.tensor(0.7)).item()
    adapter.mix({first: 1 - g, second: g})
    torch.testing.assert_close(logits(model, ids), found)
    adapter.mix({first: g, second: 1 - g})
    assert not torch.allclose(logits(model, ids), found, atol=1e-3)


def test_a_mix_is_restored_after_an_error(make_model, ids):
    model = make_model("llama")
    adapter = attach(model)
    fill(adapter, "local")
    before = logits(model, ids)
    with pytest.raises(RuntimeError, match="stop"), adapter.disabled():
        raise RuntimeError("stop")
    assert torch.equal(logits(model, ids), before)


def test_the_order_in_which_weights_are_given_does_not_matter(make_model, ids):
    model = make_model("llama")
    adapter = attach(model)
    fill(adapter, "local", "personal_global")
    with adapter.mixed({"local": 0.25, "personal_global": 0.75}):
        one = logits(model, ids)
    with adapter.mixed({"personal_global": 0.75, "local": 0.25}):
        assert torch.equal(logits(model, ids), one)


def test_without_a_gate_the_first_slot_is_in_use(make_model, ids):
    model = make_model("llama")
    adapter = attach(model, gate="none")
    fill(adapter, "local", "personal_global")
    found = logits(model, ids)
    adapter.mix({"local": 1.0})
    assert torch.equal(logits(model, ids), found)


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"lokal": 1.0}, "no slot 'lokal'.*local"), ({"local": float("nan")}, "nan"), ("gates", "gates")],
)
def test_wrong_mixes_are_refused_and_leave_the_old_one(make_model, ids, weights, message):
    model = make_model("llama")
    adapter = attach(model)
    fill(adapter, "local")
    before = logits(model, ids)
    with pytest.raises(SettingsError, match=message):
        adapter.mix(weights)
    assert torch.equal(logits(model, ids), before)


def test_gate_needs_a_gate(make_model):
    with pytest.raises(SettingsError, match="'gate' on an adapter that has one"):
        attach(make_model("llama"), gate="none").mix("gate")


# ---- tensors out and in


def test_names_and_shapes_are_neutral_where_architectures_meet(make_model):
    small, large = attach(make_model("llama")), attach(make_model("qwen2"))
    shared = [{n: s for n, s in adapter.schema("local").items() if is_shared(n)} for adapter in (small, large)]
    assert shared[0] == shared[1]
    assert shared[0]["block.0.q_proj.P"] == (4, 4)
    assert shared[0]["block.1.down_proj.Q"] == (4,)
    assert len(shared[0]) == 2 * 7 * 2
    rest = {name: shape for name, shape in small.schema("local").items() if not is_shared(name)}
    assert rest["layer.0.down_proj.A"] == (4, 48)
    assert rest["layer.0.down_proj.B"] == (32, 4)
    assert {name.split(".")[1] for name in rest} == {"0", "2"}
    assert not any(is_shared(name) for name in small.colora_shared() | small.gate_tensors())


def test_slots_of_all_clients_of_an_architecture_start_alike(make_model):
    torch.manual_seed(1)
    one = attach(make_model("llama"))
    torch.manual_seed(2)
    two = attach(make_model("llama"))
    other = attach(make_model("llama"), architecture="other")
    for name, tensor in one.slot_tensors("local").items():
        assert torch.equal(tensor, one.slot_tensors("personal_global")[name])
        assert torch.equal(tensor, two.slot_tensors("local")[name])
        assert torch.equal(tensor, other.slot_tensors("local")[name]) != name.endswith(".A")
    for name, basis in one.colora_shared().items():
        assert torch.equal(basis, two.colora_shared()[name])


def test_slots_travel_between_models_of_one_architecture(make_model, ids):
    sender, receiver = make_model("llama"), make_model("llama")
    there, here = attach(sender), attach(receiver)
    fill(there, "local")
    here.load_slot("personal_global", there.slot_tensors("local"))
    there.mix({"local": 1.0})
    here.mix({"personal_global": 1.0})
    assert torch.equal(logits(sender, ids), logits(receiver, ids))
    here.copy_slot("personal_global", "local")
    here.mix({"local": 1.0})
    assert torch.equal(logits(sender, ids), logits(receiver, ids))


def test_tensors_going_out_and_in_are_copies(make_model):
    adapter = attach(make_model("llama"))
    given = adapter.slot_tensors("local")
    adapter.load_slot("personal_global", given)
    adapter.copy_slot("local", "personal_global")
    for tensor in given.values():
        assert not tensor.requires_grad
        tensor.add_(1.0)
    for slot in ("local", "personal_global"):
        assert not any(torch.equal(given[name], tensor) for name, tensor in adapter.slot_tensors(slot).items())
    fill(adapter, "local")
    same = adapter.slot_tensors("personal_global")["block.0.q_proj.P"]
    assert not torch.equal(adapter.slot_tensors("local")["block.0.q_proj.P"], same)


def test_gates_and_bases_round_trip(make_model, ids):
    one, two = make_model("llama"), make_model("llama")
    adapter, twin = attach(one), attach(two, seed=5)
    fill(adapter, "local", "personal_global")
    adapter.load_gate({name: torch.full_like(t, 0.7) for name, t in adapter.gate_tensors().items()})
    for slot in ("local", "personal_global"):
        twin.load_slot(slot, adapter.slot_tensors(slot))
    twin.load_gate(adapter.gate_tensors())
    assert not torch.allclose(logits(one, ids), logits(two, ids))
    twin.load_basis(adapter.colora_shared())
    assert torch.equal(logits(one, ids), logits(two, ids))
    assert set(adapter.gate_tensors()) == {f"{t.by_layer}.beta" for t in adapter.placement.targets}


def test_load_is_strict_and_all_or_nothing(make_model):
    adapter = attach(make_model("llama"))
    good = {name: torch.full_like(tensor, 7.0) for name, tensor in adapter.slot_tensors("local").items()}
    before = adapter.slot_tensors("local")
    last = list(good)[-1]
    cases = [
        ({**good, last: torch.zeros(3, 2)}, rf"{last}.*\(3, 2\), expected"),
        ({name: tensor for name, tensor in good.items() if name != last}, f"'{last}' is missing"),
        ({**good, "block.0.q_prj.P": torch.zeros(4, 4)}, r"'block.0.q_prj.P' \(did you mean 'block.0.q_proj.P'"),
    ]
    for tensors, message in cases:
        with pytest.raises(ModelError, match=message):
            adapter.load_slot("local", tensors)
    assert all(torch.equal(adapter.slot_tensors("local")[name], tensor) for name, tensor in before.items())
    with pytest.raises(SettingsError, match="no slot 'shared'; its slots are local, personal_global"):
        adapter.load_slot("shared", good)


# ---- training


def test_train_only_opens_exactly_what_it_says(make_model, ids):
    model = make_model("llama")
    adapter = attach(model)
    assert not any(p.requires_grad for name, p in model.named_parameters() if "base." in name or "embed" in name)
    groups = adapter.train_only("local", gate=True)
    counts = {name: len(parameters) for name, parameters in groups.items()}
    assert counts == {"lora": 2 * 7 * 2, "colora": 2 * 7 * 2, "gate": 4 * 7}
    opened = {id(p) for parameters in groups.values() for p in parameters}
    assert opened == {id(p) for p in model.parameters() if p.requires_grad}
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)

    groups = adapter.train_only("personal_global")
    assert groups["gate"] == []
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert not opened & {id(p) for parameters in groups.values() for p in parameters}
    assert adapter.train_only() == {"lora": [], "colora": [], "gate": []}
    assert not any(p.requires_grad for p in model.parameters())


def test_some_tensors_of_a_slot_can_stay_frozen(make_model, ids):
    model = make_model("llama")
    adapter = attach(model, gate="none")
    groups = adapter.train_only("local", frozen=("A", "Q"))
    opened = {name for name, p in adapter.parameters("local").items() if p.requires_grad}
    assert opened == {name for name in adapter.schema("local") if name.endswith((".B", ".P"))}
    assert sum(map(len, groups.values())) == len(opened)
    assert adapter.opened == ("local", "-A", "-Q")
    model(input_ids=ids, labels=ids).loss.backward()
    assert {name for name, p in adapter.parameters("local").items() if p.grad is not None} == opened
    adapter.train_only("local")
    assert all(p.requires_grad for p in adapter.parameters("local").values())


def test_named_groups_hold_every_parameter_once_under_names_that_say_whose_it_is(make_model):
    model = make_model("llama")
    adapter = attach(model)
    groups = adapter.named_groups()
    named = [(name, id(p)) for group in groups.values() for name, p in group.items()]
    opened = [p for group in adapter.train_only("local", "personal_global", gate=True).values() for p in group]
    assert len(dict(named)) == len({key for _, key in named}) == len(named) == len(opened)
    assert {f"local/{name}" for name in adapter.schema("local")} <= dict(named).keys()
    assert set(groups["gate"]) == {f"gate/{name}" for name in adapter.gate_tensors()}
    assert all(is_shared(name.partition("/")[2]) for name in groups["colora"])


def test_a_closed_slot_does_not_move_by_momentum(make_model, ids):
    model = make_model("llama")
    adapter = attach(model, gate="none")
    fill(adapter, "local", "personal_global")
    both = [p for group in adapter.train_only("local", "personal_global").values() for p in group]
    optimiser = torch.optim.AdamW(both, lr=0.1)
    adapter.mix({"local": 1.0, "personal_global": 1.0})
    model(input_ids=ids, labels=ids).loss.backward()
    optimiser.step()
    adapter.train_only("local")
    before = adapter.slot_tensors("personal_global")
    model(input_ids=ids, labels=ids).loss.backward()
    optimiser.step()
    assert all(torch.equal(adapter.slot_tensors("personal_global")[name], t) for name, t in before.items())


def test_dropout_follows_the_adapter_not_the_frozen_model(make_model, ids):
    model = make_model("llama")
    adapter = attach(model, dropout=0.5)
    fill(adapter, "local")
    quiet = logits(model, ids)
    assert torch.equal(logits(model, ids), quiet)
    adapter.train()
    assert not model.training
    assert not torch.equal(logits(model, ids), quiet)
    adapter.train(False)
    assert torch.equal(logits(model, ids), quiet)


def test_gradient_checkpointing_gives_the_same_gradients(make_model, ids):
    model = make_model("llama")
    adapter = attach(model)
    fill(adapter, "local", "personal_global")
    parameters = [p for group in adapter.train_only("local", gate=True).values() for p in group]
    plain = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, parameters)
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    model.train()
    adapter.train(False)
    calls = []
    adapter.linears()[0].linear.register_forward_hook(lambda *_: calls.append(1))
    kept = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, parameters)
    assert len(calls) == 2  # computed again in the backward pass
    for a, b in zip(plain, kept, strict=True):
        torch.testing.assert_close(a, b)


def test_gradient_checkpointing_repeats_the_dropout(make_model, ids):
    """On a bf16 base, with everything switched on: the second pass must drop what the first one did."""
    model = make_model("llama").to(torch.bfloat16)
    adapter = attach(model, dropout=0.5)
    fill(adapter, "local", "personal_global")
    parameters = [p for group in adapter.train_only("local", gate=True).values() for p in group]

    def gradients(seed):
        torch.manual_seed(seed)
        return torch.autograd.grad(model(input_ids=ids, labels=ids).loss, parameters)

    model.train()
    adapter.train()
    plain, other = gradients(1), gradients(2)
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    kept = gradients(1)
    assert all(torch.equal(a, b) for a, b in zip(plain, kept, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_weights_are_made_where_the_base_is(make_model):
    """``meta`` stands for any device that is not the default one."""
    model = make_model("llama").to("meta")
    adapter = attach(model)
    tensors = [p for group in adapter.named_groups().values() for p in group.values()]
    assert {tensor.device.type for tensor in (*tensors, *adapter.colora_shared().values())} == {"meta"}


def test_fp32_adapter_trains_on_a_bf16_model(make_model, ids):
    model = make_model("llama").to(torch.bfloat16)
    adapter = attach(model)
    fill(adapter, "personal_global")
    groups = adapter.train_only("local", gate=True)
    out = model(input_ids=ids, labels=ids)
    assert out.logits.dtype == torch.bfloat16
    out.loss.backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for parameters in groups.values() for p in parameters)


# ---- on and off the model


def test_adapters_with_different_slots_take_turns_on_one_base(make_model, ids):
    model = make_model("llama")
    model.model.norm.weight.requires_grad_(False)
    open_before = {name for name, p in model.named_parameters() if p.requires_grad}
    base = logits(model, ids)
    first = attach(model)
    fill(first, "local")
    of_first = logits(model, ids)
    with pytest.raises(ModelError, match="already carries an adapter"):
        attach(model, slots=[Slot("shared", communicated=True)], gate="none")
    assert torch.equal(logits(model, ids), of_first)
    first.detach()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == open_before
    second = attach(model, slots=[Slot("shared", communicated=True)], gate="none", blocks=0, modules={"q_proj"})
    fill(second, "shared")
    assert not torch.equal(logits(model, ids), base)
    with pytest.raises(ModelError, match="detach"):
        first.reattach()
    second.detach()
    second.detach()
    assert torch.equal(logits(model, ids), base)
    first.reattach()
    assert torch.equal(logits(model, ids), of_first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank=0"),
        ({"rank": 17}, r"rank=17 .*k_proj is 32 -> 16"),
        ({"alpha": 0.0}, "alpha=0"),
        ({"dropout": 1.0}, "dropout=1"),
        ({"blocks": 5}, "only 4 layer"),
        ({"gate": "magic"}, "unknown gate 'magic'"),
        ({"slots": ()}, "at least one slot"),
        ({"modules": {"nope"}}, "q_proj"),
        ({"dtype": torch.int8}, "int8"),
    ],
)
def test_settings_that_do_not_fit_are_refused_and_leave_the_model_alone(make_model, settings, message):
    model = make_model("llama")
    modules = dict(model.named_modules())
    with pytest.raises(SettingsError, match=message):
        attach(model, **settings)
    assert dict(model.named_modules()) == modules
    assert all(p.requires_grad for p in model.parameters())


def test_a_decoder_from_elsewhere_is_refused(make_model):
    with pytest.raises(ModelError, match="not part of"):
        attach(make_model("llama"), decoder=make_model("llama"))
    with pytest.raises(ModelError, match="no list of like layers"):
        attach(nn.Sequential(nn.Linear(2, 2)))
