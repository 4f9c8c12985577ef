import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.config import load_scenario
from fedmosaic.config.dirichlet import divide
from fedmosaic.errors import SettingsError

BASE = load_scenario("mosaic40")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 120), st.floats(0.05, 5), st.integers(0, 5))
def test_shares_of_a_task_do_not_overlap_and_everybody_has_one(clients, alpha, seed):
    scenario = divide(BASE, clients=clients, alpha=alpha, seed=seed)
    assert len(scenario.clients) == clients
    held = {}
    for client in scenario.clients:
        assert client.tasks
        for task, share in client.shares.items():
            held.setdefault(task, []).append(share)
    for shares in held.values():
        ordered = sorted(shares)
        assert all(low < high for low, high in ordered)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(ordered))


def test_small_alpha_concentrates():
    def largest(alpha):
        scenario = divide(BASE, clients=20, alpha=alpha)
        widths = {}
        for client in scenario.clients:
            for task, (low, high) in client.shares.items():
                widths[task] = max(widths.get(task, 0), high - low)
        return sum(widths.values()) / len(widths)

    assert largest(0.1) > largest(1.0) > largest(10.0)


def test_it_is_a_scenario_by_name():
    scenario = load_scenario("mosaic40-dirichlet-100")
    assert scenario == load_scenario("mosaic40-dirichlet-100")
    assert len(scenario.clients) == 100
    assert len(load_scenario("mosaic40-small-dirichlet-6-0.1").clients) == 6
    with pytest.raises(SettingsError, match="nosuch"):
        load_scenario("nosuch-dirichlet-3")
