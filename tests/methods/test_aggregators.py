"""Rules of aggregation against Flower's, against brute force, and against attackers who may send anything."""

import itertools

import numpy as np
import pytest
import torch
from flwr.server.strategy import aggregate as flower
from flwr.supercore.differential_privacy import compute_clip_model_update
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmosaic.config import load_scenario, resolve
from fedmosaic.errors import SettingsError
from fedmosaic.methods.aggregators.base import Aggregator, distances_between, make_aggregator
from fedmosaic.methods.aggregators.multi_krum import krum_order
from fedmosaic.registry import AGGREGATORS

RULES = list(AGGREGATORS)
ROBUST = [rule for rule in RULES if rule != "mean"]
SHAPES = [(4, 3), (5,), (2, 2)]


def made(rule: str, attackers: float = 0.2) -> Aggregator:
    return make_aggregator(rule, attackers)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def averages(rule: Aggregator, parts: list[torch.Tensor]) -> list[torch.Tensor]:
    return list(rule.averaged(len(parts[0]), lambda: parts))


def mixture(rule: Aggregator, weights: torch.Tensor, values: torch.Tensor, own: int = 0) -> torch.Tensor:
    """One receiver's, (V,)."""
    return rule.own_mixtures(weights[None], values, torch.tensor([own]))[0]


# ---- equal weights: the published rules ------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [1, 2, 3, 5, 8, 11])
@pytest.mark.parametrize("hostile", [0, 1, 2, 3])
def test_with_equal_weights_the_rules_are_flowers(clients, hostile):
    if hostile > (clients - 1) // 2:
        return
    parts = [drawn(clients, *shape, seed=clients) for shape in SHAPES]
    sent = [([part[client].numpy() for part in parts], 1) for client in range(clients)]
    share = hostile / clients
    expected = {
        "mean": flower.aggregate(sent),
        "median": flower.aggregate_median(sent),
        "trimmed-mean": flower.aggregate_trimmed_avg(sent, share + 1e-6),  # its own product is rounded down
        "multi-krum": flower.aggregate_krum(sent, hostile, clients - hostile),
    }
    for rule, tensors in expected.items():
        found = averages(made(rule, share), parts)
        torch.testing.assert_close(
            found, [torch.tensor(each) for each in tensors], msg=lambda text, r=rule: f"{r}: {text}"
        )


def test_the_norm_bound_is_flowers_clipping_around_the_central_upload():
    parts = [drawn(7, *shape) for shape in SHAPES]
    for part in parts:
        part[5:] *= 30
    between = torch.stack([(part[:, None] - part).flatten(2).square().sum(2) for part in parts]).sum(0).sqrt()
    centre = int(between.sum(0).argmin())
    bound = float(between[centre].sort().values[4])
    expected = [torch.zeros(shape) for shape in SHAPES]
    for client in range(7):
        clipped = [part[client].numpy().copy() for part in parts]
        if client != centre:
            compute_clip_model_update(clipped, [part[centre].numpy() for part in parts], bound)
        expected = [total + torch.tensor(each) / 7 for total, each in zip(expected, clipped, strict=True)]
    torch.testing.assert_close(averages(made("norm-bound", 2 / 7), parts), expected, atol=1e-4, rtol=1e-4)


def test_the_mean_is_the_mean_bit_for_bit_whatever_share_is_set():
    parts = [drawn(6, *shape) for shape in SHAPES]
    for found, part in zip(averages(made("mean", 0.4), parts), parts, strict=True):
        assert torch.equal(found, part.mean(0))


def test_the_share_of_attackers_is_rounded_up_but_stays_below_half():
    counts = {share: [made("median", share).hostile(n) for n in range(1, 11)] for share in (0.0, 0.2, 0.3, 0.4)}
    assert counts == {
        0.0: [0] * 10,
        0.2: [0, 0, 1, 1, 1, 2, 2, 2, 2, 2],
        0.3: [0, 0, 1, 1, 2, 2, 3, 3, 3, 3],
        0.4: [0, 0, 1, 1, 2, 2, 3, 3, 4, 4],
    }


# ---- weights ---------------------------------------------------------------------------------------------------------


def brute_force(rule: str, weights: list[float], values: np.ndarray, f: int) -> list[float]:
    """The definitions of the docstrings, for one receiver whose own row is 0, one number at a time."""
    peers = [j for j, weight in enumerate(weights) if weight > 0]
    if rule == "multi-krum":
        scores = {}
        for j in peers:
            near = sorted(float(((values[j] - values[k]) ** 2).sum()) for k in peers if k != j)
            scores[j] = sum(near[: max(1, len(peers) - f - 2)])
        kept = sorted(peers, key=scores.__getitem__)[: len(peers) - f]
        return sum(weights[j] * values[j] for j in kept) / sum(weights[j] for j in kept)
    if rule == "norm-bound":
        lengths = {j: float(np.linalg.norm(values[j] - values[0])) for j in peers}
        bound = sorted(lengths.values())[len(peers) - f - 1]
        return values[0] + sum(weights[j] * min(1, bound / lengths[j]) * (values[j] - values[0]) for j in peers)
    return [_middle(rule, sorted((column[j], weights[j]) for j in peers)[f : len(peers) - f]) for column in values.T]


def _middle(rule: str, left: list[tuple[float, float]]) -> float:
    total = sum(weight for _, weight in left)
    if rule == "trimmed-mean":
        return sum(value * weight for value, weight in left) / total
    below = list(itertools.accumulate(weight for _, weight in left))
    low = next(value for (value, _), sum_ in zip(left, below, strict=True) if sum_ >= total / 2)
    return (low + next(value for (value, _), sum_ in zip(left, below, strict=True) if sum_ > total / 2)) / 2


@pytest.mark.parametrize("rule", ROBUST)
@pytest.mark.parametrize("peers", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_weighted_rules_are_what_their_definitions_say(rule, peers, share):
    clients = 12  # whose weight is zero is no peer, whoever it is
    values, weights = drawn(clients, 40, seed=peers).double(), torch.zeros(clients, dtype=torch.float64)
    weights[1 : peers + 1] = torch.softmax(drawn(peers, seed=1), 0)
    weights /= weights.sum()
    found = mixture(made(rule, share), weights, values)
    f = made(rule, share).hostile(peers)
    expected = torch.tensor(np.array(brute_force(rule, weights.tolist(), values.numpy(), f)))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_half_of_the_weight_on_either_side_is_the_middle_of_both():
    weights, values = torch.tensor([0.0, 0.25, 0.25, 0.5]), torch.tensor([[9.0], [1.0], [2.0], [5.0]])
    assert mixture(made("median", 0.0), weights, values).item() == 3.5


@pytest.mark.parametrize("rule", RULES)
def test_a_receiver_without_peers_receives_nothing_from_anybody(rule):
    assert mixture(made(rule), torch.zeros(4), drawn(4, 3)).equal(torch.zeros(3))


@pytest.mark.parametrize("rule", RULES)
def test_the_mean_of_all_others_is_a_mixture_with_equal_weights(rule):
    parts = [drawn(6, *shape) for shape in SHAPES]
    flat, weights = torch.cat([part.flatten(1) for part in parts], 1), (1 - torch.eye(6)) / 5
    expected = made(rule).own_mixtures(weights, flat, torch.arange(6))
    found = torch.cat([each.flatten(1) for each in made(rule).others_averaged(6, lambda: parts)], 1)
    torch.testing.assert_close(found, expected)


# ---- invariants ------------------------------------------------------------------------------------------------------

NUMBERS = st.floats(-100, 100, width=32)
MATRICES = st.integers(3, 9).flatmap(lambda n: arrays(np.float32, (n, 4), elements=NUMBERS))
SHARES = st.sampled_from([0.0, 0.2, 0.3, 0.45])


@pytest.mark.parametrize("rule", RULES)
@given(clients=st.integers(3, 9), share=SHARES, seed=st.integers(0, 99), data=st.data())
@settings(max_examples=15)
def test_who_sent_what_first_is_of_no_consequence(rule, clients, share, seed, data):
    order = torch.tensor(data.draw(st.permutations(range(1, clients))))
    values, weights = drawn(clients, 6, seed=seed), torch.softmax(drawn(clients - 1, seed=seed + 1), 0)
    weights = torch.cat([torch.zeros(1), weights])
    moved = torch.cat([torch.zeros(1, dtype=torch.int64), order])
    one, other = (mixture(made(rule, share), weights[o], values[o]) for o in (torch.arange(clients), moved))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rule", RULES)
@given(row=arrays(np.float32, 5, elements=NUMBERS), clients=st.integers(1, 8), share=SHARES)
@settings(max_examples=15)
def test_equal_uploads_give_that_upload(rule, row, clients, share):
    values = torch.tensor(row).expand(clients, -1)
    torch.testing.assert_close(averages(made(rule, share), [values])[0], values[0], atol=1e-4, rtol=1e-5)
    if clients > 1:
        weights = torch.cat([torch.zeros(1), torch.full((clients - 1,), 1 / (clients - 1))])
        torch.testing.assert_close(mixture(made(rule, share), weights, values), values[0], atol=1e-4, rtol=1e-5)


@given(honest=MATRICES, sent=st.data(), share=SHARES)
@settings(max_examples=25)
def test_f_attackers_cannot_move_anything_out_of_the_range_of_the_honest(honest, sent, share):
    """Whatever they send, and whatever weight they have got for it by their sketches."""
    own, peers = torch.tensor(honest[0]), torch.tensor(honest[1:])
    f = max(f for f in range(len(peers) + 1) if f <= made("median", share).hostile(len(peers) + f))
    wild = arrays(np.float32, (f, 4), elements=st.floats(-1e6, 1e6, width=32))
    values = torch.cat([own[None], peers, torch.tensor(sent.draw(wild))])
    given_ = torch.tensor(sent.draw(arrays(np.float32, len(values) - 1, elements=st.floats(0.015625, 1, width=32))))
    given_[len(peers) :] *= 1000
    weights = torch.cat([torch.zeros(1), given_ / given_.sum()])
    for rule in ("trimmed-mean", "median"):
        found = mixture(made(rule, share), weights, values)
        assert (found >= peers.amin(0) - 1e-3).all(), rule
        assert (found <= peers.amax(0) + 1e-3).all(), rule
    farthest = (peers - own).double().norm(dim=1).max()
    moved = (mixture(made("norm-bound", share), weights, values) - own).double().norm()
    assert moved <= farthest * (1 + 1e-3) + 1e-2


@pytest.mark.parametrize("peers", [5, 7, 9, 12])
def test_multi_krum_leaves_out_attackers_far_away_even_if_they_agree(peers):
    hostile = (peers - 3) // 2
    values = drawn(peers + 1, 20)
    values[-hostile:] = 50 + 0.01 * drawn(hostile, 20)  # nearer to each other than any honest ones
    weights = torch.cat([torch.zeros(1), torch.full((peers,), 0.1 / peers)])
    weights[-hostile:] += 0.9 / hostile  # as if all sketches were like the receiver's
    found = mixture(made("multi-krum", hostile / peers), weights, values)
    torch.testing.assert_close(found, values[1:-hostile].mean(0))
    assert mixture(made("mean"), weights, values).mean() > 40


@pytest.mark.parametrize("rule", RULES)
def test_a_single_peer_is_taken_as_it_is(rule):
    values = drawn(3, 5)
    torch.testing.assert_close(mixture(made(rule, 0.4), torch.tensor([0.0, 0.0, 1.0]), values), values[2])


def test_distances_add_up_over_parts_and_are_infinite_to_what_is_not_a_number():
    whole = drawn(5, 30)
    expected = torch.cdist(whole.double(), whole.double())
    torch.testing.assert_close(distances_between([whole[:, :7], whole[:, 7:]]), expected, atol=1e-6, rtol=1e-6)
    whole[2, 3] = torch.nan
    found = distances_between([whole])
    assert found[2].isinf().tolist() == [True, True, False, True, True]
    torch.testing.assert_close(found[[0, 1, 3, 4]][:, [0, 1, 3, 4]], expected[[0, 1, 3, 4]][:, [0, 1, 3, 4]])


# ---- settings --------------------------------------------------------------------------------------------------------


def test_one_class_adds_a_rule():
    class Nearest(Aggregator):
        name = "nearest"

        def reweighed(self, weights, distances, itself):
            own = distances()[itself].masked_fill(weights == 0, torch.inf)
            return torch.zeros_like(weights).scatter(1, own.argmin(1, keepdim=True), 1.0)

    with pytest.raises(SettingsError, match="unknown rule of aggregation 'nearest'"):
        resolve(load_scenario("demo"), overrides=["aggregation.rule=nearest"])
    AGGREGATORS.register(Nearest)
    chosen = resolve(load_scenario("demo"), overrides=["aggregation.rule=nearest"]).aggregation
    values = torch.tensor([[0.0], [3.0], [1.0], [-2.0]])
    weights = torch.tensor([0.0, 0.4, 0.3, 0.3])
    assert mixture(make_aggregator(chosen.rule, chosen.attackers), weights, values).item() == 1.0


@pytest.mark.parametrize("share", ["0.5", "-0.1", "nan"])
def test_half_of_the_clients_cannot_be_hostile(share):
    with pytest.raises(SettingsError, match="attackers"):
        resolve(load_scenario("demo"), overrides=[f"aggregation.attackers={share}"])


@pytest.mark.parametrize("places", [[0.0, 1.0, 5.0, 5.5, 20.0], [1.0, 0.0, 5.5, 5.0, 20.0]])
def test_of_two_that_are_each_others_nearest_the_one_nearer_to_all_comes_first(places):
    points = torch.tensor(places)
    order = krum_order((points[:, None] - points).square(), hostile=2)  # only the nearest counts: 0 and 1 are level
    assert points[order][2:].tolist() == [1.0, 0.0, 20.0]
