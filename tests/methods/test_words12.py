"""Every registered method on the text federation: it ends, its scores are scores; a seed gives one result."""

import json

import pytest
from tests.methods.every import FAST

from fedmosaic.config import load_scenario, resolve
from fedmosaic.data.words import benchmark, tasks
from fedmosaic.federation import RunFolder, engines
from fedmosaic.methods.registry import method_classes

CLIENTS = (0, 3, 6)  # two of one family with options, one of the other with open answers
METHODS = sorted(method_classes())


@pytest.fixture
def few(monkeypatch):
    """Six test questions a task, instead of up to a hundred."""
    monkeypatch.setattr(tasks, "SAMPLES", {"train": 12, "validation": 4, "test": 6})
    monkeypatch.setattr(tasks, "_LEAST", dict.fromkeys(tasks.SAMPLES, 4))
    benchmark._made.cache_clear()
    yield
    benchmark._made.cache_clear()


def scores_of(method, folder, *, seed=0):
    scenario = load_scenario("words12")
    clients = [
        client.model_copy(update={"tasks": client.tasks[:1]}) for client in scenario.clients if client.id in CLIENTS
    ]
    settings = resolve(
        scenario.model_copy(update={"clients": tuple(clients)}),
        method=method,
        seed=seed,
        rounds=2,
        training={"steps": 1, "batch_size": 2},
        adapter={"rank": 16, "blocks": 2},
        evaluation={"samples_per_task": 2},
    )
    engines.run(settings, RunFolder.create(folder, settings))
    return json.loads((folder / "scores.json").read_text()), json.loads((folder / "results.json").read_text())


def numbers(table):
    """All numbers of a table of tables and lists, in order."""
    if isinstance(table, dict):
        return [number for each in table.values() for number in numbers(each)]
    if isinstance(table, list):
        return [number for each in table for number in numbers(each)]
    return [table] if isinstance(table, int | float) and not isinstance(table, bool) else []


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_on_text_tasks(few, tmp_path, method):
    _, results = scores_of(method, tmp_path / "one")
    assert results["method"] == method
    for part in ("self", "others"):
        assert 0 <= results[part]["last"] <= 1
        assert all(0 <= score <= 1 for score in numbers(results[part]["per_client"]))
    assert (results["bytes_up"] > 0) == (method != "sft")


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(FAST))
def test_a_seed_gives_one_result(few, tmp_path, method):
    one, two = (scores_of(method, tmp_path / name)[0] for name in ("one", "two"))
    assert one == two
