import json
from pathlib import Path

import pytest
from tests.federation.scenario import results_of, small

from fedmosaic.errors import DataError, SettingsError
from fedmosaic.experiments import sweep
from fedmosaic.experiments.comparison import rates_of, rates_of_other_steps, steps_of_rates
from fedmosaic.experiments.variant import method_and_changes, variant_of
from fedmosaic.federation import RunFolder


def test_a_variant_is_its_method_with_other_settings():
    base = small(seed=0)
    chosen = sweep.variants(base, ["fedmosaic", "fedmosaic:relevance=uniform:training.steps=7", "sft"])
    plain, uniform, sft = chosen.values()
    assert (plain.method_settings, plain.training.steps) == ({}, 2)
    assert (uniform.method, uniform.method_settings, uniform.training.steps) == (
        "fedmosaic",
        {"relevance": "uniform"},
        7,
    )
    assert sft.method == "sft"


def test_a_colon_in_a_value_belongs_to_it():
    name = variant_of("sft", ["device=cuda:1", "training.steps=7"])
    assert name == "sft:device=cuda:1:training.steps=7"
    assert method_and_changes(name) == ("sft", ["device=cuda:1", "training.steps=7"])
    assert method_and_changes("sft") == ("sft", [])
    assert method_and_changes("sft:steps") == ("sft", ["steps"])  # without a value: refused as a setting


def test_settings_of_methods_that_are_given_for_all_runs_are_those_of_every_method_that_has_them():
    base = small(seed=0).model_copy(update={"method_settings": {"temperature": 0.125}})
    chosen = sweep.variants(base, ["fedmosaic", "fedmosaic:temperature=2.0", "fedmosaic-proxy", "sft"])
    assert [each.method_settings.get("temperature") for each in chosen.values()] == [0.125, 2.0, 0.125, None]
    with pytest.raises(SettingsError, match=r"method\.temperature .* none of sft, fedavg has such a setting"):
        sweep.variants(base, ["sft", "fedavg"])


def test_an_unknown_setting_of_a_variant_is_named():
    with pytest.raises(SettingsError, match="stepps"):
        sweep.variants(small(), ["sft:training.stepps=7"])


def test_runs_of_one_seed_come_together_and_lie_in_folders_of_their_own():
    chosen = sweep.variants(small(), ["fedmosaic", "fedmosaic:adapter.alignment=my/bases"])
    laid = sweep.plan(chosen, seeds=(0, 1), out=Path("out"))
    assert [each.seed for each in laid] == [0, 0, 1, 1]
    assert len({each.path for each in laid}) == 4
    assert all(each.path.parent == Path("out") and each.settings.seed == each.seed for each in laid)


def test_only_runs_finished_with_the_same_settings_are_taken(tmp_path):
    base, earlier = small(seed=0), tmp_path / "earlier"
    for each in sweep.plan(sweep.variants(base, ["sft", "fedavg", "ditto"]), seeds=(0,), out=earlier):
        folder = RunFolder.create(each.path, each.settings)
        (each.path / ".lock").touch()
        if each.variant != "ditto":
            folder.write_results(results_of(each.settings))
    here = sweep.variants(base, ["sft", "fedavg:training.steps=7", "ditto", "feddat"])
    here["fedavg"] = here.pop("fedavg:training.steps=7")  # of the same name as the earlier run, but not the same run
    laid = sweep.plan(here, seeds=(0,), out=tmp_path / "here")
    taken = sweep.take_finished(laid, earlier)
    assert [each.variant for each in taken] == ["sft"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["sft-seed0"]
    copy = RunFolder.resume(taken[0].path, taken[0].settings)
    assert copy.results() == results_of(taken[0].settings)
    assert not (copy.path / ".lock").exists()
    assert sweep.take_finished(laid, earlier) == []  # what is there stays


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [True, False])
def test_runs_on_data_that_have_changed_since_are_not_compared(tmp_path, elsewhere):
    laid = sweep.plan(sweep.variants(small(seed=0), ["sft"]), seeds=(0,), out=tmp_path / "earlier")
    folder = RunFolder.create(laid[0].path, laid[0].settings)
    folder.write_results(results_of(laid[0].settings))
    note = folder.client_folder / "inputs.json"
    note.parent.mkdir()
    note.write_text(json.dumps({"train samples of trend@lines": "others"}))
    here = sweep.plan(sweep.variants(small(seed=0), ["sft"]), seeds=(0,), out=tmp_path / "here")
    with pytest.raises(DataError, match=rf"changed since the run in {folder.path} began: train samples of trend@lines"):
        sweep.take_finished(here, tmp_path / "earlier") if elsewhere else sweep.check_begun(laid)
    assert not (tmp_path / "here").exists()


def test_learning_rates_are_tried_on_validation_samples_and_the_gate_is_left_alone():
    chosen = sweep.variants(small(), ["fedmosaic"])
    tried = sweep.rate_plans(chosen, factors=(0.5, 2.0), seed=3, out=Path("out"))["fedmosaic"]
    base = chosen["fedmosaic"].training
    for factor, each in tried.items():
        training = each.settings.training
        assert training.learning_rate == pytest.approx(factor * base.learning_rate)
        assert training.colora_learning_rate == pytest.approx(factor * base.colora_learning_rate)
        assert training.gate_learning_rate == base.gate_learning_rate
        assert (each.settings.seed, each.settings.evaluation.split) == (3, "validation")
    assert sweep.rate_scores(tried) == {}  # nothing has been run


def test_a_learning_rate_of_the_method_is_one_too():
    name = "fedmosaic-proxy:proxy_learning_rate=1:weight=2"
    chosen = sweep.variants(small(), [name, "fedmosaic-proxy"])
    tried = sweep.rate_plans(chosen, factors=(0.5, 1.0), seed=0, out=Path("out"))
    assert tried[name][0.5].settings.method_settings == {"proxy_learning_rate": 0.5, "weight": 2}
    assert tried["fedmosaic-proxy"][0.5].settings.method_settings == {}
    assert sweep.at_best_rates(chosen, {name: {1.0: 0.6}})[name].digest == chosen[name].digest


def test_rates_chosen_before_hold_for_a_methods_variants_too(tmp_path):
    chosen = sweep.variants(small(), ["fedmosaic", "fedmosaic:gate=false", "sft"])
    path = tmp_path / "comparison.json"
    path.write_text('{"rates": {"fedmosaic": {"0.3": 0.5, "1": 0.4}, "sft": {"0.3": 0.4, "1": 0.4, "3": 0.6}}}')
    best = sweep.at_best_rates(chosen, rates_of(path, chosen))
    default = small().training.learning_rate
    factors = {name: settings.training.learning_rate / default for name, settings in best.items()}
    assert factors == pytest.approx({"fedmosaic": 0.3, "fedmosaic:gate=false": 0.3, "sft": 3.0})
    with pytest.raises(SettingsError, match=r"'ditto'.*fedmosaic, sft"):
        rates_of(path, sweep.variants(small(), ["ditto"]))


def test_rates_chosen_with_other_steps_are_named_and_with_far_ones_refused(tmp_path):
    """12(h): what is best at 20 steps is not what is best at 4."""
    path = tmp_path / "comparison.json"
    rows = [{"method": name, "settings": {"steps": 20}} for name in ("fedmosaic", "sft")]
    path.write_text(json.dumps({"rates": {"fedmosaic": {"1": 0.5}, "sft": {"1": 0.5}}, "rows": rows}))
    then = {"fedmosaic": 20, "fedmosaic:gate=false": 20, "sft": 20}

    def laid(steps):
        chosen = sweep.variants(small(), [f"fedmosaic:training.steps={steps}", "sft:training.steps=20"])
        chosen = {"fedmosaic": chosen.popitem()[1], "fedmosaic:gate=false": chosen.popitem()[1]}
        return sweep.plan(chosen, seeds=(0, 1), out=Path("out"))

    assert steps_of_rates(path, sweep.variants(small(), list(then))) == then
    tried_at = {name: then[name] for name in ("fedmosaic", "fedmosaic:gate=false")}
    assert rates_of_other_steps(tried_at, laid(20)) == []
    assert rates_of_other_steps(tried_at, laid(18.5)) == ["fedmosaic:gate=false 20, now 18.5"]
    with pytest.raises(SettingsError, match="fedmosaic:gate=false 20, now 4"):
        rates_of_other_steps(tried_at, laid(4))


def test_steps_of_rates_are_those_they_were_tried_with_even_if_taken_over_from_an_earlier_comparison(tmp_path):
    path = tmp_path / "comparison.json"
    rows = [{"method": "sft", "settings": {"steps": 4}}]
    path.write_text(json.dumps({"rates": {"sft": {"1": 0.5}}, "rates_steps": {"sft": 20}, "rows": rows}))
    assert steps_of_rates(path, sweep.variants(small(), ["sft"])) == {"sft": 20}
    path.write_text('{"rates": {"sft": {"1": 0.5}}}')
    with pytest.raises(SettingsError, match=r"does not say.*'sft'.*--rates 0\.3,1,3"):
        steps_of_rates(path, sweep.variants(small(), ["sft"]))
