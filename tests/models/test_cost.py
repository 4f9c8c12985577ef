import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedmosaic.models.cost import BatchShape, forward_flops, train_step_flops


class Low(nn.Module):
    """A linear with a plain low-rank branch, as an adapter would put it there."""

    def __init__(self, base: nn.Linear, rank: int = 4):
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(rank, base.in_features) * 0.01)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + (x @ self.down.T) @ self.up.T


def adapt(model, layers):
    for index in layers:
        for part in (model.decoder.layers[index].self_attn, model.decoder.layers[index].mlp):
            for name, child in list(part.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(part, name, Low(child))


def release(model):
    for layer in model.decoder.layers:
        for part in (layer.self_attn, layer.mlp):
            for name, child in list(part.named_children()):
                if isinstance(child, Low):
                    setattr(part, name, child.base)


def counted(model, batch, *, backward):
    """Count by torch; the projector is not part of the decoder's cost, so features are projected before."""
    with FlopCounterMode(display=False) as counter:
        loss = model.loss(batch)
        if backward:
            loss.backward()
    features = batch.vision["features"]
    projector = sum(p.numel() for p in model.module.model.multi_modal_projector.parameters() if p.ndim == 2)
    return counter.get_total_flops() - 2 * features.shape[0] * features.shape[1] * projector


@pytest.fixture
def eager(tiny):
    before = tiny.module.config.text_config._attn_implementation
    tiny.module.set_attn_implementation(
        "eager"
    )  # torch counts its matrix products; the fused kernel is not counted on a CPU
    yield tiny
    release(tiny)
    tiny.module.set_attn_implementation(before)


def shape_of(batch):
    return BatchShape(*batch.input_ids.shape, head_tokens=int((batch.labels[:, 1:] != -100).sum()))


@pytest.mark.slow
def test_forward_is_counted_within_two_percent(eager, samples):
    batch = eager.collate(samples)
    with torch.no_grad():
        expected = counted(eager, batch, backward=False)
    assert forward_flops(eager, shape_of(batch)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("where", ["all layers", "last layer", "second half"])
def test_training_is_counted_within_two_percent(eager, samples, where):
    depth = len(eager.decoder.layers)
    layers = {"all layers": range(depth), "last layer": [depth - 1], "second half": range(depth // 2, depth)}[where]
    adapt(eager, layers)
    batch = eager.collate(samples)
    assert train_step_flops(eager, shape_of(batch)) == pytest.approx(counted(eager, batch, backward=True), rel=0.02)


def test_without_adapters_a_step_is_a_forward_pass(tiny):
    shape = BatchShape(sequences=2, length=10, head_tokens=4)
    assert train_step_flops(tiny, shape) == forward_flops(tiny, shape)


def test_cost_grows_with_sequences_and_faster_than_length(tiny):
    one = forward_flops(tiny, BatchShape(1, 50, 1))
    assert forward_flops(tiny, BatchShape(3, 50, 3)) == 3 * one
    assert forward_flops(tiny, BatchShape(1, 100, 2)) > 2 * one
