"""Sketches of adapters' updates: inner products of what changes in the layers, whatever the factors."""

import torch

from fedmosaic.relevance.update_sketch import update_sketch

A, B, P = "layer.0.q_proj.A", "layer.0.q_proj.B", "tower.pca.P"


def slot(seed):
    random = torch.Generator().manual_seed(seed)
    return {
        A: torch.randn(4, 20, generator=random),
        B: torch.randn(30, 4, generator=random),
        "layer.1.up_proj.A": torch.randn(4, 20, generator=random),
        "layer.1.up_proj.B": torch.randn(12, 4, generator=random),
        P: torch.randn(6, 6, generator=random),
        "tower.pca.Q": torch.randn(6, generator=random),
    }


def change(before, after):
    """What changes in all layers, as one vector."""
    parts = [(after[f"{k}.B"] @ after[f"{k}.A"] - before[f"{k}.B"] @ before[f"{k}.A"]).flatten()
             for k in ("layer.0.q_proj", "layer.1.up_proj")]  # fmt: skip
    return torch.cat([*parts, *((after[k] - before[k]).flatten() for k in (P, "tower.pca.Q"))])


def test_inner_products_of_sketches_are_those_of_the_layers_changes():
    start, one, other = slot(0), slot(1), slot(2)
    other = {name: 0.5 * one[name] + 0.5 * other[name] for name in one}
    exact = [change(start, one), change(start, other)]
    found = torch.stack([update_sketch(start, end, size=2**14, seed=3) for end in (one, other)])
    for i in (0, 1):
        for k in (0, 1):
            scale = exact[i].norm() * exact[k].norm()
            torch.testing.assert_close(found[i] @ found[k] / scale, exact[i] @ exact[k] / scale, atol=0.03, rtol=0)


def test_factors_of_the_same_product_have_the_same_sketch_and_no_change_has_none():
    start, end = slot(0), slot(1)
    turn = torch.linalg.qr(slot(2)[P][:4, :4]).Q
    turned = {**end, A: turn @ end[A], B: end[B] @ turn.T}
    one, other = (update_sketch(start, each, size=256, seed=0) for each in (turned, end))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)
    assert update_sketch(start, start, size=256, seed=0).abs().max() < 1e-3
    assert not torch.equal(update_sketch(start, end, size=256, seed=1), update_sketch(start, end, size=256, seed=0))
