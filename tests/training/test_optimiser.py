import torch
from torch import nn

from fedmosaic.config import TrainingSettings
from fedmosaic.training import SlotOptimiser

SETTINGS = TrainingSettings(learning_rate=0.1, colora_learning_rate=0.2, gate_learning_rate=0.3, max_grad_norm=0.0)


def make(seed=0):
    random = torch.Generator().manual_seed(seed)
    groups = {
        kind: {f"s/{kind}": nn.Parameter(torch.randn(3, generator=random))} for kind in ("lora", "colora", "gate")
    }
    return groups, SlotOptimiser(groups, SETTINGS)


def everything(groups):
    return [parameter for group in groups.values() for parameter in group.values()]


def loss(groups):
    return sum(((parameter - 1) ** 2).sum() for parameter in everything(groups))


def test_each_group_has_its_own_learning_rate():
    groups, optimiser = make()
    before = [parameter.detach().clone() for parameter in everything(groups)]
    optimiser.step(loss(groups))
    for parameter, old, rate in zip(everything(groups), before, (0.1, 0.2, 0.3), strict=True):
        torch.testing.assert_close((parameter - old).abs(), torch.full((3,), rate), atol=1e-4, rtol=0)


def test_scaled_rates_are_factors_of_the_settings_each_time():
    groups, optimiser = make()
    for factor in (0.5, 0.1):
        optimiser.scale_rates(factor)
    before = [parameter.detach().clone() for parameter in everything(groups)]
    optimiser.step(loss(groups))
    for parameter, old, rate in zip(everything(groups), before, (0.01, 0.02, 0.03), strict=True):
        torch.testing.assert_close((parameter - old).abs(), torch.full((3,), rate), atol=1e-5, rtol=0)


def test_interrupted_training_with_saved_moments_equals_uninterrupted_training():
    groups, optimiser = make()
    for _ in range(3):
        optimiser.step(loss(groups))
    moments = optimiser.moments()
    weights = [parameter.detach().clone() for parameter in everything(groups)]
    again, resumed = make(seed=9)
    with torch.no_grad():
        for parameter, weight in zip(everything(again), weights, strict=True):
            parameter.copy_(weight)
    resumed.load_moments(moments)
    for _ in range(2):
        optimiser.step(loss(groups))
        resumed.step(loss(again))
    for one, other in zip(everything(groups), everything(again), strict=True):
        assert torch.equal(one, other)


def test_moments_never_overwrite_received_weights():
    """docs/method-facts.md#optimiser-restore-undoes-the-download, at its first step."""
    groups, optimiser = make()
    optimiser.step(loss(groups))
    moments = optimiser.moments()
    received, resumed = make(seed=5)
    with torch.no_grad():
        for parameter in everything(received):
            parameter.fill_(5.0)
    resumed.load_moments(moments)
    assert all(torch.equal(parameter, torch.full((3,), 5.0)) for parameter in everything(received))
    resumed.step(loss(received))
    assert all((parameter - 5.0).abs().max() < 0.5 for parameter in everything(received))


def test_what_has_no_gradient_does_not_move_by_old_momentum():
    """docs/method-facts.md#one-optimiser-for-two-adapters: the idle one drifts."""
    groups, optimiser = make()
    for _ in range(3):
        optimiser.step(loss(groups))
    idle = groups["colora"]["s/colora"]
    before, moments = idle.detach().clone(), optimiser.moments()
    optimiser.step((groups["lora"]["s/lora"] ** 2).sum())
    assert torch.equal(idle, before)
    assert torch.equal(optimiser.moments()["exp_avg/s/colora"], moments["exp_avg/s/colora"])


def test_the_gradient_norm_is_clipped_over_all_groups():
    groups, _ = make()
    optimiser = SlotOptimiser(groups, SETTINGS.model_copy(update={"max_grad_norm": 1e-3}))
    optimiser.step(1e3 * loss(groups))
    gradient = torch.cat([optimiser.moments()[f"exp_avg/s/{kind}"] for kind in groups]) / 0.1
    torch.testing.assert_close(gradient.norm(), torch.tensor(1e-3), rtol=1e-3, atol=0)
