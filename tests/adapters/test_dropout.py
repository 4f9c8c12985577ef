"""Dropout on 16 random bits per entry: rate, independence, scale, gradient, reproducibility."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedmosaic.adapters.dropout import dropout


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.5, 0.9])
def test_every_lane_of_a_word_drops_at_the_rate(probability):
    """A biased bit (torch's plain ``random_`` never sets the sign) would show in one of the four lanes."""
    torch.manual_seed(0)
    kept = dropout(torch.ones(400_000), probability) != 0
    rates = 1 - kept.view(-1, 4).double().mean(0)
    error = (probability * (1 - probability) / 100_000) ** 0.5
    assert torch.allclose(rates, torch.full_like(rates, probability), atol=4.5 * error)
    neighbours = torch.corrcoef(kept.view(-1, 4).double().t()) - torch.eye(4)
    assert neighbours.abs().max() < 4.5 / 100_000**0.5


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 40))
def test_the_kept_are_scaled_so_that_the_mean_stays(probability, size):
    """Entries are 0 or x / (1 - p), for p rounded to 16 bits, up to the largest p there is."""
    x = torch.arange(1.0, size + 1, dtype=torch.float64)
    rounded = min(round(probability * 65536), 65535) / 65536
    out = dropout(x, probability)
    kept = out != 0
    assert torch.allclose(out[kept], x[kept] / (1 - rounded))
    assert probability > 0 or kept.all()


def test_gradient_and_draw_are_those_of_the_seed():
    """The gradient has the same zeros; the same seed gives the same mask in every dtype, another one another."""
    x = torch.ones(8, 25, requires_grad=True)
    torch.manual_seed(1)
    out = dropout(x, 0.5)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    torch.manual_seed(1)
    assert torch.equal(dropout(x.detach().bfloat16(), 0.5).float(), out)
    assert not torch.equal(dropout(x.detach(), 0.5), out)


def test_as_torch_has_it():
    """The same mean and variance of a sum as torch's dropout."""
    torch.manual_seed(2)
    x = torch.linspace(-1, 2, 64)
    ours = torch.stack([dropout(x, 0.2).sum() for _ in range(4000)])
    theirs = torch.stack([nn.functional.dropout(x, 0.2).sum() for _ in range(4000)])
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=6 * float(theirs.std()) / 4000**0.5)
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.08)
