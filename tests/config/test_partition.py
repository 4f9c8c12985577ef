"""A division gives every train sample to exactly one client, whatever the numbers."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.config import Scenario, load_scenario, resolve
from fedmosaic.config.dirichlet import MOSAIC40_SIZES, divide
from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.data.sample import Sample, Task
from fedmosaic.errors import DataError, SettingsError
from fedmosaic.federation.division import own_part

BASE = load_scenario("mosaic40")
alphas = st.floats(math.log(0.01), math.log(1000)).map(math.exp)


def task(name, size):
    sample = Sample("s", (), "what ?", "that")
    return Task(name, "text", tuple(dataclasses.replace(sample, id=str(i)) for i in range(size)), (), (sample,))


def owners(scenario, sizes):
    """How many clients own each train sample, by task, as training cuts them; a task in nobody's hands is all zeros."""
    tasks = {name: task(name, sizes[name]) for name in scenario.task_names}
    counts = {name: np.zeros(sizes[name], int) for name in sizes}
    for client in scenario.clients:
        for name in client.tasks:
            own = own_part(tasks[name], client).train
            assert own
            counts[name][[int(sample.id) for sample in own]] += 1
    return counts


def assert_partition(scenario, sizes):
    assert all(client.tasks for client in scenario.clients)
    assert all((count == 1).all() for count in owners(scenario, sizes).values())


@pytest.mark.slow
@settings(max_examples=15)
@given(clients=st.integers(2, 5000), alpha=alphas, seed=st.integers(0, 99))
def test_mosaic40_is_dealt_out_whole(clients, alpha, seed):
    scenario = divide(BASE, clients=clients, alpha=alpha, seed=seed)
    assert len(scenario.clients) == clients
    assert_partition(scenario, {name: MOSAIC40_SIZES[name] for name in BASE.task_names})


@pytest.mark.slow
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    part=st.floats(0, 1),
    alpha=st.floats(1e-300, 1e300),
    seed=st.integers(0, 99),
)
def test_any_data_are_dealt_out_whole_up_to_one_sample_per_client(sizes, part, alpha, seed):
    named = {f"t{i}": size for i, size in enumerate(sizes)}
    base = Scenario(name="b", benchmark="published", clients=[{"id": 0, "model": "m", "tasks": list(named)}])
    clients = max(1, round(part * sum(sizes)))
    assert_partition(divide(base, clients=clients, alpha=alpha, seed=seed, sizes=named), named)


@pytest.mark.parametrize("name", ["mosaic40-dirichlet-100", "mosaic40-dirichlet-100-5", "mosaic40-dirichlet-100-10"])
def test_the_named_divisions_deal_out_the_real_benchmark(name, home):
    benchmark = load_benchmark("mosaic40", home=home)
    assert_partition(load_scenario(name), {name: len(benchmark.task(name).train) for name in BASE.task_names})


def test_the_sizes_are_those_of_the_built_benchmark(home):
    benchmark = load_benchmark("mosaic40", home=home)
    for name in [*benchmark.task_names(), *benchmark.unseen_names()]:
        assert MOSAIC40_SIZES[name] == len(benchmark.task(name).train), name


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0, 50.0])
def test_shares_have_the_concentration_of_a_dirichlet_draw(alpha):
    """E sum w^2 = (alpha + 1) / (K alpha + 1)."""
    clients, size, tasks = 10, 100_000, [f"t{i}" for i in range(400)]
    base = Scenario(name="b", benchmark="published", clients=[{"id": 0, "model": "m", "tasks": tasks}])
    scenario = divide(base, clients=clients, alpha=alpha, sizes=dict.fromkeys(tasks, size))
    squares = [(high - low) ** 2 for client in scenario.clients for low, high in client.shares.values()]
    assert sum(squares) / len(tasks) == pytest.approx((alpha + 1) / (clients * alpha + 1), rel=0.05)


def test_clients_with_like_shares_get_like_numbers_of_samples():
    """At a large alpha a share is 240 / 7 samples: each client gets that, rounded up or down."""
    scenario = divide(BASE, clients=7, alpha=1e300)
    for client in scenario.clients:
        low, high = client.shares["category@photo"]
        assert round((high - low) * 240) in (34, 35)


def test_more_clients_than_samples_are_refused():
    total = sum(MOSAIC40_SIZES[name] for name in BASE.task_names)
    assert len(load_scenario(f"mosaic40-dirichlet-{total}").clients) == total
    with pytest.raises(SettingsError, match=f"{total + 1} clients.*at most {total}"):
        load_scenario(f"mosaic40-dirichlet-{total + 1}")


@pytest.mark.parametrize(
    "end", ["0", "-3", "x", "", "1.5", "3-0", "3--1", "3-1.2.3", "3-nan", "3-inf", "3-", "3-0.5-1", "3-x", "9" * 5000]
)
def test_a_division_that_is_none_is_one_error(end):
    with pytest.raises(SettingsError, match=r"CLIENTS-ALPHA|at most"):
        load_scenario(f"mosaic40-dirichlet-{end}")


@pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf, "1.2.3"])
def test_an_impossible_alpha_is_refused_by_the_function_too(alpha):
    with pytest.raises(SettingsError, match="alpha"):
        divide(BASE, clients=3, alpha=alpha)


def test_a_division_keeps_everything_else_of_the_base(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'protocol = "static"\nprobe = "tiny-gemma"\nreference = "sft"\n[settings.training]\nsteps = 3\n'
        '[[clients]]\nid = 4\nmodel = "tiny-llama"\ntasks = ["trend@lines"]\nstart = "lora"\njoins = 2\n'
        '[[clients]]\nid = 9\nmodel = "tiny-gemma"\ntasks = ["category@photo"]\n'
    )
    base, found = load_scenario(str(path)), load_scenario(f"{path}-dirichlet-5-2")
    same = {"protocol", "probe", "reference", "settings", "benchmark"}
    assert found.model_dump(include=same) == base.model_dump(include=same)
    assert found.name == "mine-dirichlet-5-2"
    assert [client.model for client in found.clients] == ["tiny-llama", "tiny-gemma"] * 2 + ["tiny-llama"]
    assert [client.start for client in found.clients] == [str(tmp_path / "lora"), ""] * 2 + [str(tmp_path / "lora")]
    assert [client.joins for client in found.clients] == [2, 1, 2, 1, 2]
    assert resolve(found).training.steps == 3


def test_divided_tasks_are_not_divided_again():
    with pytest.raises(SettingsError, match="divided already"):
        load_scenario("mosaic40-dirichlet-4-dirichlet-5")


def test_shares_that_meet_are_cut_at_one_sample_whatever_their_digits():
    halves = [
        {"id": 0, "model": "m", "tasks": ["t"], "shares": {"t": (0, 0.333333)}},
        {"id": 1, "model": "m", "tasks": ["t"], "shares": {"t": (0.333333, 1)}},
    ]
    scenario = Scenario(name="s", clients=halves)
    for size in (2, 3, 7, 240, 1001):
        assert_partition(scenario, {"t": size})


def test_a_share_of_no_sample_is_refused():
    scenario = Scenario(name="s", clients=[{"id": 0, "model": "m", "tasks": ["t"], "shares": {"t": (0.01, 0.02)}}])
    with pytest.raises(DataError, match=r"client 0 .* 10 train samples of 't'"):
        own_part(task("t", 10), scenario.client(0))
