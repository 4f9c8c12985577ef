"""Both kinds of adapted linear against the formula written out, in float64."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from fedmosaic.adapters.dropout import dropout
from fedmosaic.adapters.forward_context import ForwardContext
from fedmosaic.adapters.gate import make_gate
from fedmosaic.adapters.layer import CoLoraLinear, LoraLinear
from fedmosaic.errors import SettingsError

IN, OUT, RANK, SCALE = 7, 5, 3, 1.5
NAMES = ("local", "shared", "received")
MIXES = [
    {"local": 1.0},
    {"shared": 0.3},
    {"local": 0.5, "shared": 0.5},
    {"local": 0.25, "received": -2.0},
    {"local": 0.2, "shared": 0.3, "received": 0.5},
]
KINDS = [LoraLinear, CoLoraLinear]


def random(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64).to(dtype)


def make(kind, mix, *, base=None, dtype=torch.float64, gate="none", dropout=0.0, slots=NAMES):
    """An adapted linear whose slots all hold different random values."""
    torch.manual_seed(0)
    weights = tuple(mix.values()) if gate == "none" else ()
    state = ForwardContext(active=tuple(mix), weights=weights, gated=gate != "none")
    base = base or nn.Linear(IN, OUT, dtype=dtype)
    layer = kind(
        base.requires_grad_(False),
        random(RANK, IN, dtype=dtype),
        random(OUT, RANK, dtype=dtype),
        slots=slots,
        scale=SCALE,
        dropout=dropout,
        context=state,
        gate=make_gate(gate, IN, state, torch.device("cpu"), dtype),
    ).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter))
    return layer


def formula(layer, mix, x):
    """The published equations, slot by slot and row by row."""
    rows = []
    for row in x.reshape(-1, IN):
        out = layer.base.weight @ row + layer.base.bias
        for name, weight in mix.items():
            slot = layer.slot(name)
            if isinstance(layer, LoraLinear):
                update = slot["B"] @ (slot["A"] @ row)
            else:
                update = layer.B @ (slot["P"] @ (layer.A @ row) + slot["Q"])
            out = out + SCALE * weight * update
        rows.append(out)
    return torch.stack(rows).view(*x.shape[:-1], OUT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("shape", [(4, IN), (2, 3, IN), (IN,)])
def test_output_is_the_formula(kind, mix, shape):
    layer = make(kind, mix)
    x = random(*shape)
    torch.testing.assert_close(layer(x), formula(layer, mix, x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("trained", [NAMES, ("local",), ("shared", "received"), ()])
@pytest.mark.parametrize("hooked", [False, True], ids=["joint", "apart"])
def test_gradients_are_those_of_the_formula(kind, mix, trained, hooked):
    layer = make(kind, mix)
    if hooked:  # then the base computes by itself
        layer.base.register_forward_hook(lambda *_: None)
    for name in NAMES:
        for parameter in layer.slot(name).values():
            parameter.requires_grad_(name in trained)
    x = random(2, 3, IN).requires_grad_()
    inputs = [x, *(parameter for name in trained for parameter in layer.slot(name).values())]
    toward = random(2, 3, OUT)
    found = torch.autograd.grad(layer(x), inputs, toward, allow_unused=True)
    expected = torch.autograd.grad(formula(layer, mix, x), inputs, toward, allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", ["none", "scalar", "token"])
def test_gradcheck(kind, gate):
    mix = {"local": 0.3, "shared": 0.7}
    layer = make(kind, mix, gate=gate)
    names = [name for name, parameter in layer.named_parameters() if parameter.requires_grad]

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    values = [dict(layer.named_parameters())[name].detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(call, (random(2, 2, IN).requires_grad_(), *values))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_size_weighs_a_single_slot_and_has_its_gradient(kind):
    layer = make(kind, {"shared": 1.0}, gate="step")
    x = random(2, 3, IN)
    with torch.no_grad():
        layer.gate.s.fill_(-0.7)
    torch.testing.assert_close(layer(x), formula(layer, {"shared": -0.7}, x))

    def call(step):
        return torch.func.functional_call(layer, {"gate.s": step}, x)

    assert torch.autograd.gradcheck(call, layer.gate.s.detach().clone().requires_grad_())


@pytest.mark.parametrize("kind", KINDS)
def test_samples_can_have_weights_of_their_own(kind):
    layer = make(kind, {"local": 1.0, "shared": 1.0})
    weights = random(2, 2)
    layer.context.by_sample = weights
    x = random(2, 3, IN)
    expected = [formula(layer, {"local": a, "shared": b}, row) for (a, b), row in zip(weights, x, strict=True)]
    torch.testing.assert_close(layer(x), torch.stack(expected))
    inputs = [parameter for name in ("local", "shared") for parameter in layer.slot(name).values()]
    found = torch.autograd.grad(layer(x).sum(), inputs)
    for a, b in zip(found, torch.autograd.grad(torch.stack(expected).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(SettingsError, match="2 samples, but 3 rows"):
        layer(x[0])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_slots_do_not_share_memory(kind):
    """Or clipping them in place would clip twice."""
    layer = make(kind, {"local": 1.0, "shared": 1.0})
    layer(random(4, IN)).sum().backward()
    grads = [parameter.grad for name in ("local", "shared") for parameter in layer.slot(name).values()]
    assert len({grad.untyped_storage().data_ptr() for grad in grads}) == len(grads)


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_layer_whose_input_needs_no_gradient_still_trains(kind):
    layer = make(kind, {"local": 1.0})
    layer(random(4, IN)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.slot("local").values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", ["none", "scalar", "token"])
def test_without_gradients_the_output_is_the_same_and_no_rows_are_fine(kind, gate):
    layer = make(kind, {"local": 0.3, "shared": 0.7}, gate=gate)
    x = random(2, 3, IN)
    recorded = layer(x)
    with torch.no_grad():
        assert torch.equal(layer(x), recorded)
        assert layer(x[:0]).shape == (0, 3, OUT)


@pytest.mark.parametrize("kind", KINDS)
def test_no_slot_in_use_is_the_base_layer_bit_for_bit(kind):
    layer = make(kind, {}, dtype=torch.float32)
    x = random(2, 3, IN, dtype=torch.float32)
    assert torch.equal(layer(x), layer.base(x))


def test_colora_starts_at_zero_with_gradients_for_p_and_q():
    layer = make(CoLoraLinear, {"local": 1.0})
    with torch.no_grad():
        for parameter in layer.slot("local").values():
            parameter.zero_()
    x = random(4, IN)
    out = layer(x)
    assert torch.equal(out, layer.base(x))
    out.square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in layer.slot("local").values())


@pytest.mark.parametrize("kind", KINDS)
def test_fp32_adapter_on_a_bf16_base(kind):
    mix = {"local": 0.5, "shared": 0.25}
    layer = make(kind, mix, dtype=torch.float32, base=nn.Linear(IN, OUT).to(torch.bfloat16))
    x = random(8, IN, dtype=torch.bfloat16).requires_grad_()
    out = layer(x)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert all(parameter.grad.dtype == torch.float32 for parameter in layer.slot("local").values())
    exact = formula(layer.double(), mix, x.detach().double())
    torch.testing.assert_close(out.double(), exact, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("gate", "letter"), [("scalar", "beta"), ("token", "w")])
def test_autocast_computes_the_branches_in_its_dtype(kind, gate, letter):
    mix = {"local": 0.5, "shared": 0.25}
    layer = make(kind, mix, dtype=torch.float32, gate=gate)
    x = random(8, IN, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert getattr(layer.gate, letter).grad.dtype == torch.float32
    plain = layer(x)
    torch.testing.assert_close(out.float(), plain, rtol=0.03, atol=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_only_and_keeps_the_mean(kind):
    layer = make(kind, {"local": 1.0}, dropout=0.5)
    x = random(1, IN)
    expected = formula(layer, {"local": 1.0}, x)
    torch.testing.assert_close(layer(x), expected)
    layer.train()
    many = layer(x.expand(40_000, IN))
    assert not torch.allclose(many[0], many[1])
    deviation = (many.mean(0) - expected[0]) / many.std(0) * many.shape[0] ** 0.5
    assert deviation.abs().max() < 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", ["none", "scalar", "token"])
@pytest.mark.parametrize("hooked", [False, True], ids=["joint", "apart"])
def test_dropout_is_on_the_input_of_the_branches_alone(kind, gate, hooked):
    layer = make(kind, {"local": 0.5, "shared": 0.5}, dropout=0.5, gate=gate)
    twin = make(kind, {"local": 0.5, "shared": 0.5}, gate="none")
    if hooked:
        layer.base.register_forward_hook(lambda *_: None)
    if gate != "none":
        with torch.no_grad():
            next(layer.gate.parameters()).zero_()
        for name in ("local", "shared"):
            for letter, parameter in twin.slot(name).items():
                parameter.data.copy_(layer.slot(name)[letter])
    layer.train()
    x = random(4, IN).requires_grad_()
    torch.manual_seed(3)
    found = layer(x)
    torch.manual_seed(3)
    dropped = dropout(x, 0.5)
    expected = twin.base(x) + twin(dropped) - twin.base(dropped)
    torch.testing.assert_close(found, expected)
    toward = random(4, OUT)
    (own,), (other,) = torch.autograd.grad(found, [x], toward), torch.autograd.grad(expected, [x], toward)
    torch.testing.assert_close(own, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_on_the_base_sees_its_own_output_and_keeps_it(kind):
    layer = make(kind, {"local": 1.0})
    seen = []
    layer.base.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    x = random(2, 3, IN)
    out = layer(x)
    torch.testing.assert_close(out, formula(layer, {"local": 1.0}, x))
    assert torch.equal(seen[0], nn.functional.linear(x, layer.base.weight, layer.base.bias))


class Int8Linear(nn.Module):
    """Stands for a quantised linear: no float weight, its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("packed", torch.randint(-99, 99, (OUT, IN), dtype=torch.int8))

    def forward(self, x):
        return x @ (self.packed.to(x.dtype) / 50).t()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", [Int8Linear, lambda: Conv1D(OUT, IN).double()], ids=["int8", "Conv1D"])
def test_any_module_that_maps_vectors_can_be_the_base(kind, base):
    layer = make(kind, {"local": 0.5, "shared": 2.0}, base=base())
    x = random(2, 3, IN).requires_grad_()
    plain = make(kind, {"local": 0.5, "shared": 2.0})
    with torch.no_grad():
        for name in NAMES:
            for letter, parameter in plain.slot(name).items():
                parameter.copy_(layer.slot(name)[letter])
    if kind is CoLoraLinear:
        plain.A, plain.B = layer.A, layer.B
    torch.testing.assert_close(layer(x) - layer.base(x), plain(x) - plain.base(x))
    layer(x).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_changes_nothing(kind):
    layer = make(kind, {"local": 0.5, "shared": 0.5}, gate="scalar")
    x = random(2, 3, IN).requires_grad_()
    inputs = [x, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]
    plain = torch.autograd.grad(layer(x).square().sum(), inputs, allow_unused=True)
    kept = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).square().sum(), inputs, allow_unused=True)
    for a, b in zip(plain, kept, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize(
    ("kind", "kept"), [(LoraLinear, {(64, 3 * RANK), (3,)}), (CoLoraLinear, {(64, RANK), (RANK, RANK), (3,)})]
)
def test_little_is_kept_for_the_backward_pass(kind, kept):
    """Beside the input and the layer's own tensors only latents, weights and a mixed P; not the joined A and B."""
    layer = make(kind, {"local": 0.5, "shared": 0.25, "received": 0.25})
    own = {tensor.data_ptr() for tensor in (*layer.parameters(), *layer.buffers())}
    x = random(64, IN).requires_grad_()
    extra = []

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in {*own, x.data_ptr()}:
            extra.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    assert set(extra) == kept
