"""Adapters on bases whose linears a quantisation library has replaced, or filled with its own kind of weights."""

import pytest
import torch
from peft import PeftModel

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.adapters.export import write_lora
from fedmosaic.adapters.merge import merged
from fedmosaic.errors import ModelError

TWO = (Slot("local", communicated=True), Slot("personal_global", communicated=False))


def quanto(model):
    """Replace the linears by quanto's, int8 weights."""
    library = pytest.importorskip("optimum.quanto", reason="pip install fedmosaic[quant]")
    library.quantize(model, weights=library.qint8, exclude="lm_head")
    library.freeze(model)
    return model


def torchao(model):
    """Keep the linears, but with a tensor subclass for a weight."""
    library = pytest.importorskip("torchao.quantization", reason="pip install torchao")
    library.quantize_(model.model, library.Int8WeightOnlyConfig())
    return model


def attach(model, **settings):
    defaults = {"slots": TWO, "rank": 4, "alpha": 8, "blocks": 2, "gate": "scalar", "seed": 0, "architecture": "a"}
    adapter = Adapter.attach(model, model, **defaults | settings)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for group in adapter.named_groups().values():
            for parameter in group.values():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw))
    return adapter


@pytest.mark.parametrize("quantise", [quanto, torchao])
def test_an_adapter_trains_on_a_quantised_base(make_model, ids, quantise):
    """Its branches are those on the float base; the base is left as it is."""
    model = quantise(make_model("llama"))
    adapter = attach(model)
    assert len(adapter.linears()) == 28
    linear = adapter.linears()[0].linear
    twin = attach(make_model("llama")).linears()[0].linear
    x = torch.randn(2, 3, 32)
    torch.testing.assert_close(linear(x) - linear.base(x), twin(x) - twin.base(x), atol=1e-5, rtol=1e-5)
    before = [adapted.linear.base(torch.ones(1, adapted.target.in_features)) for adapted in adapter.linears()]
    groups = adapter.train_only("local", gate=True)
    assert all(groups.values())
    optimiser = torch.optim.AdamW([p for group in groups.values() for p in group], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    for adapted, expected in zip(adapter.linears(), before, strict=True):
        assert torch.equal(adapted.linear.base(torch.ones(1, adapted.target.in_features)), expected)
    with pytest.raises(ModelError, match=r"quantised base cannot be merged.*--as lora"):
        merged(adapter, model)


@torch.no_grad()
def test_peft_computes_the_same_on_the_same_quantised_base(make_model, ids, tmp_path):
    model = quanto(make_model("llama"))
    write_lora(attach(model), tmp_path, base_model="x")
    theirs = PeftModel.from_pretrained(quanto(make_model("llama")), tmp_path)
    torch.testing.assert_close(theirs(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5, rtol=0)
