"""What is only true of a card: skipped without one."""

import pytest
import torch

from fedmosaic.data.images import GivenImages
from fedmosaic.data.sample import Sample
from fedmosaic.models import load_base_model
from fedmosaic.training import ModelPool

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SAMPLES = [Sample(f"s{i}", (), f"what is {i} ?", word) for i, word in enumerate(("red", "blue", "a colour"))]


def test_losses_on_a_card_are_those_of_the_cpu(home):
    losses = [
        base.loss(base.collate(SAMPLES)).item()
        for base in (
            load_base_model("tiny-llama", images=GivenImages(()), home=home, device=device)
            for device in ("cpu", "cuda")
        )
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_half_precision_on_a_card_is_near(home):
    base = load_base_model("tiny-llama", images=GivenImages(()), home=home, device="cuda", dtype="bfloat16")
    exact = load_base_model("tiny-llama", images=GivenImages(()), home=home)
    near = base.loss(base.collate(SAMPLES)).item()
    assert near == pytest.approx(exact.loss(exact.collate(SAMPLES)).item(), rel=0.05)


def test_off_loading_leaves_one_model_on_the_card(home):
    pool = ModelPool(images=GivenImages(()), home=home, device="cuda", offload=True)
    first = pool.model("tiny-llama")
    first.loss(first.collate(SAMPLES))
    one = torch.cuda.memory_allocated()
    pool.turn()
    second = pool.model("tiny-gemma")
    second.loss(second.collate(SAMPLES))
    assert first.module.device.type == "cpu" and second.module.device.type == "cuda"
    assert torch.cuda.memory_allocated() < 2 * one
    pool.turn()
    again = pool.model("tiny-llama")
    assert again.loss(again.collate(SAMPLES)).isfinite()
