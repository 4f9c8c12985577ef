import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.scenario import results_of, small

from fedmosaic.cli.compare import share_of_budget
from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.experiments import equal_flops
from fedmosaic.experiments.comparison import compare, outside_budget
from fedmosaic.experiments.equal_flops import WINDOW, EqualFlops, fitted
from fedmosaic.experiments.sweep import plan, variants
from fedmosaic.federation import RunFolder, engines
from fedmosaic.methods.registry import method_classes

# ---- the search ------------------------------------------------------------------------------------------------------


@given(
    factor=st.floats(0.6, 6),
    fixed=st.floats(0, 2),
    start=st.integers(1, 40),
    trainings=st.integers(1, 200),
)
def test_almost_all_is_spent_and_never_more(factor, fixed, start, trainings):
    """Costs that grow by whole steps of single clients, beside what does not depend on the steps."""

    def count(steps):
        tries.append(steps)
        return fixed * start + factor * math.floor(steps * trainings + 1e-9) / trainings

    tries, allowed = [], float(start)
    spent, steps = fitted(count, start, allowed)
    assert len(tries) < 20
    if count(1.0) > allowed:
        assert (spent, steps) == (count(1.0), 1.0)
        return
    assert spent == count(steps) <= allowed * (1 + 1e-9)
    assert spent >= 0.985 * allowed or count(steps + 0.01) > 0.999 * allowed


def test_costs_that_are_linear_take_two_counts_and_equal_ones_one():
    for factor, wanted in ((1.0, 1), (2.5, 2)):
        tries = []
        spent, _ = fitted(lambda steps, f=factor, t=tries: t.append(steps) or f * steps, 20, 20.0)
        assert len(tries) == wanted
        assert 0.985 * 20 <= spent <= 20


def test_a_cost_that_does_not_grow_ends_the_search():
    tries = []
    assert fitted(lambda steps: tries.append(steps) or 5.0, 20, 20.0)[0] == 5.0
    assert len(tries) <= 10


# ---- a comparison's budgets ------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """Costs by method, in place of dry runs: FLOPs per step of one round, and of a round without any."""
    costs = {"sft": (1.0, 0.0), "fedavg": (1.0, 0.0), "ditto": (2.0, 0.0), "fedmkt": (1.0, 7.0), "takfl": (1.0, 30.0)}
    calls = []

    def dry_run(assets):
        settings = assets.settings
        calls.append((settings.method, settings.seed))
        per_step, fixed = costs[settings.method]
        step = (10 + settings.seed) * settings.training.batch_size * per_step
        return [SimpleNamespace(flops=step * settings.training.steps + 100 * fixed)] * settings.rounds

    def with_null_models(settings):
        return SimpleNamespace(settings=settings, with_settings=with_null_models)

    monkeypatch.setattr(equal_flops, "with_null_models", with_null_models)
    monkeypatch.setattr(equal_flops, "dry_run", dry_run)
    return calls


def base(**training) -> RunSettings:
    settings = small("fedmosaic")
    return settings.model_copy(update={"training": settings.training.model_copy(update={"steps": 20, **training})})


def test_each_run_has_the_budget_of_local_training_with_its_seed_and_whatever_else_its_variant_changes(
    counted, tmp_path
):
    chosen = variants(base(), ["sft", "fedavg", "ditto", "sft:training.batch_size=8", "ditto:training.steps=100"])
    equal = EqualFlops(base(), kept=tmp_path / "kept.json")
    equal.count(chosen, seeds=(0, 3))
    plans = [equal.applied(each) for each in plan(chosen, seeds=(0, 3), out=tmp_path)]
    assert {each.allowed for each in plans if each.seed == 0} == {3 * 20 * 10 * 4}
    assert {each.allowed for each in plans if each.seed == 3} == {3 * 20 * 13 * 4}
    steps = {each.variant: each.settings.training.steps for each in plans}
    assert (steps["sft"], steps["fedavg"]) == (20, 20)
    for halved in ("ditto", "sft:training.batch_size=8", "ditto:training.steps=100"):
        assert 9.85 <= steps[halved] <= 10


def test_a_comparison_that_is_called_again_counts_nothing_again(counted, tmp_path):
    chosen = variants(base(), ["fedavg", "fedmkt"])
    found = []
    for seeds in ((0, 1), (1, 0)):
        equal = EqualFlops(base(), kept=tmp_path / "kept.json")
        equal.count(chosen, seeds=seeds)
        laid = plan(chosen, seeds=(0, 1), out=tmp_path)
        found.append({each.path: equal.applied(each).settings.digest for each in laid})
        counted.append("end")
    assert found[0] == found[1]
    assert counted[-2:] == ["end", "end"]
    (tmp_path / "kept.json").write_text("{damaged")
    EqualFlops(base(), kept=tmp_path / "kept.json").count(chosen, seeds=(0,))


def test_a_count_holds_on_every_device(counted, tmp_path):
    for device in ("cpu", "cuda"):
        settings = base().model_copy(update={"device": device})
        EqualFlops(settings, kept=tmp_path / "kept.json").count(variants(settings, ["fedavg"]), seeds=(0,))
        counted.append(device)
    assert counted[-2:] == ["cpu", "cuda"]  # nothing in between


def test_counting_that_was_stopped_goes_on_where_it_was(counted, tmp_path):
    chosen, kept = variants(base(), ["fedavg", "ditto", "fedmkt"]), tmp_path / "kept.json"

    def stopped(text):
        if text.startswith("ditto"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EqualFlops(base(), kept=kept, say=stopped).count(chosen, seeds=(0,))
    counted.clear()
    EqualFlops(base(), kept=kept).count(chosen, seeds=(0,))
    assert "fedavg" not in {method for method, _ in counted}


def test_a_method_that_cannot_do_one_step_is_an_error_that_names_what_it_takes(counted, tmp_path):
    chosen = variants(base(), ["sft", "fedmkt", "takfl"])
    kept = tmp_path / "out" / "kept.json"
    with pytest.raises(SettingsError, match=r"takfl 3\.80 times") as raised:
        EqualFlops(base(), kept=kept).count(chosen, seeds=(0,))
    assert "fedmkt" not in str(raised.value)
    assert not kept.parent.exists()
    enough = int(str(raised.value).rpartition("training.steps=")[2])
    more = base(steps=enough)
    EqualFlops(more, kept=kept).count(variants(more, ["takfl"]), seeds=(0,))


# ---- finished runs ---------------------------------------------------------------------------------------------------


def finished(tmp_path, shares: dict[str, list[float]]):
    """A comparison of runs that spent these shares of their budgets with seeds 0, 1, ..."""
    plans = []
    for name, spent in shares.items():
        for seed, share in enumerate(spent):
            (each,) = plan({name: small(name)}, seeds=(seed,), out=tmp_path)
            RunFolder.create(each.path, each.settings).write_results(results_of(each.settings, flops=10.0 * share))
            plans.append(equal_flops.replace(each, allowed=10.0))
    return plans


def test_rows_say_what_finished_runs_have_spent_of_what_they_may(tmp_path):
    plans = finished(
        tmp_path, {"sft": [1.0, 1.0], "ditto": [0.99, 0.98], "fedmkt": [0.99, 1.02], "takfl": [0.96, 0.98]}
    )
    comparison = compare(plans, budget="flops")
    spent = {row["method"]: row["spent"] for row in comparison["rows"]}
    assert spent["ditto"] == pytest.approx({"least": 0.98, "most": 0.99})
    assert [line.split()[0] for line in outside_budget(comparison)] == ["fedmkt", "takfl"]
    assert [share_of_budget(spent[name]) for name in ("sft", "ditto")] == ["100.0", "98.0-99.0"]


def test_without_a_budget_nothing_is_said(tmp_path):
    comparison = compare(
        [equal_flops.replace(each, allowed=None) for each in finished(tmp_path, {"sft": [1.0]})], budget="steps"
    )
    assert comparison["rows"][0]["spent"] is None
    assert outside_budget(comparison) == []


# ---- real runs -------------------------------------------------------------------------------------------------------

METHODS = ["sft", *sorted(set(method_classes()) - {"sft"})]
FEW = "public_samples"  # of methods that have them: no more than these short rounds can afford


@pytest.fixture(scope="module")
def equal(tmp_path_factory):
    settings = small(rounds=3, training={"steps": 12, "batch_size": 4})
    return EqualFlops(settings, kept=tmp_path_factory.mktemp("equal") / "kept.json"), settings


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_has_its_results_and_spent_its_budget_to_three_percent_and_never_more(tmp_path, equal, method):
    budgets, settings = equal
    own = {field.name for field in dataclasses.fields(method_classes()[method].Settings)}
    chosen = variants(settings, [f"{method}:{FEW}=6" if FEW in own else method])
    budgets.count(chosen, seeds=(5,))
    (each,) = (budgets.applied(each) for each in plan(chosen, seeds=(5,), out=tmp_path))
    engines.run(each.settings, RunFolder.create(each.path, each.settings))
    results = json.loads((each.path / "results.json").read_text())
    assert results["method"] == method
    assert all(0 <= results[part]["last"] <= 1 for part in ("self", "others"))
    assert (results["bytes_up"] > 0) == (method != "sft")
    spent, (least, most) = results["flops"], WINDOW
    assert least * each.allowed <= spent <= most * each.allowed
    (row,) = compare([each], budget="flops")["rows"]
    assert row["spent"]["least"] == pytest.approx(spent / each.allowed)
