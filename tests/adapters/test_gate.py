import pytest
import torch

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.adapters.forward_context import ForwardContext, Prompt
from fedmosaic.adapters.functional import slot_weights
from fedmosaic.adapters.gate import gated_pair, make_gate
from fedmosaic.errors import SettingsError

SLOTS = (Slot("local", communicated=True), Slot("personal_global", communicated=False))


def gate(kind, features=4):
    made = make_gate(kind, features, ForwardContext(), torch.device("cpu"), torch.float64)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel() or 1).view_as(parameter))
    return made


@pytest.mark.parametrize("kind", ["scalar", "token", "sample"])
def test_gates_start_at_one_half(kind):
    made = make_gate(
        kind, 4, ForwardContext(prompt=Prompt(torch.ones(2, 3, dtype=torch.bool))), torch.device("cpu"), torch.float32
    )
    weights = slot_weights(made(torch.randn(6, 4)))
    assert torch.equal(weights, torch.full_like(weights, 0.5))


def test_scalar_gate_gives_one_minus_sigmoid_and_sigmoid():
    made = gate("scalar")
    with torch.no_grad():
        made.beta.fill_(0.8)
    share = 1 / (1 + torch.exp(torch.tensor(-0.8, dtype=torch.float64)))
    torch.testing.assert_close(
        slot_weights(made(torch.zeros(3, 4, dtype=torch.float64))), torch.stack([1 - share, share])
    )


def test_token_gate_looks_at_each_token():
    made = gate("token")
    rows = torch.randn(6, 4, dtype=torch.float64)
    weights = slot_weights(made(rows))
    for row, weight in zip(rows, weights, strict=True):
        torch.testing.assert_close(weight[1], torch.sigmoid((row * made.w).sum()))
        torch.testing.assert_close(weight.sum(), torch.ones((), dtype=torch.float64))


def test_sample_gate_averages_over_the_prompt_only():
    made = gate("sample")
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    made.context.prompt = Prompt(mask)
    x = torch.randn(2, 4, 4, dtype=torch.float64)
    weights = slot_weights(made(x.view(8, 4))).view(2, 4, 2)
    for sample, length in ((0, 2), (1, 3)):
        value = torch.sigmoid((x[sample, :length] @ made.w).mean())
        torch.testing.assert_close(weights[sample, :, 1], value.expand(4))
    x[~mask] = 99.0
    assert torch.equal(slot_weights(made(x.view(8, 4))).view(2, 4, 2), weights)


def test_sample_gate_without_or_with_a_wrong_prompt_says_what_to_do():
    made = gate("sample")
    with pytest.raises(SettingsError, match=r"adapter\.prompt"):
        made(torch.zeros(6, 4, dtype=torch.float64))
    made.context.prompt = Prompt(torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(SettingsError, match=r"6 input rows .* \(2, 2\)"):
        made(torch.zeros(6, 4, dtype=torch.float64))


def test_the_pair_is_the_only_two_slots_unless_named():
    assert gated_pair("none", None, ["a"]) is None
    assert gated_pair("scalar", None, ["a", "b"]) == ("a", "b")
    assert gated_pair("token", ("c", "a"), ["a", "b", "c"]) == ("c", "a")
    assert gated_pair("step", None, ["a"]) == ("a",)
    for kind, pair, slots, message in [
        ("noisy", None, ["a", "b"], "unknown gate 'noisy'"),
        ("scalar", None, ["a"], "mixes two slots"),
        ("scalar", ("a", "x"), ["a", "b"], "two different slots"),
        ("scalar", ("a", "a"), ["a", "b"], "two different slots"),
        ("step", None, ["a", "b"], "single slot"),
    ]:
        with pytest.raises(SettingsError, match=message):
            gated_pair(kind, pair, slots)


@pytest.mark.parametrize("kind", ["sample", "token"])
@pytest.mark.parametrize("blocks", [0, 2])
def test_decoding_with_a_cache_sees_the_gate_of_training(make_model, ids, kind, blocks):
    """The logits of answer tokens are the same in one teacher-forced pass and in step-by-step decoding."""
    model = make_model("llama")
    adapter = Adapter.attach(
        model, model, slots=SLOTS, rank=4, alpha=8, blocks=blocks, gate=kind, seed=0, architecture="llama"
    )
    torch.manual_seed(0)
    adapter.load_gate({name: torch.randn_like(tensor) * 0.3 for name, tensor in adapter.gate_tensors().items()})
    for slot in SLOTS:
        tensors = adapter.slot_tensors(slot.name)
        adapter.load_slot(slot.name, {name: torch.randn_like(tensor) * 0.3 for name, tensor in tensors.items()})
    prompt = 4
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, :prompt] = True
    with adapter.prompt(mask):
        whole = model(input_ids=ids).logits
    with torch.no_grad(), adapter.prompt(mask[:, :prompt]):
        result = model(input_ids=ids[:, :prompt], use_cache=True)
        steps = [result.logits]
        for t in range(prompt, ids.shape[1]):
            result = model(input_ids=ids[:, t : t + 1], past_key_values=result.past_key_values, use_cache=True)
            steps.append(result.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-4, rtol=1e-4)
    whole.square().sum().backward()
    assert all(linear.linear.gate.w.grad.abs().sum() > 0 for linear in adapter.linears())
