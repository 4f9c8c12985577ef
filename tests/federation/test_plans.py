from pathlib import Path

import pytest
from tests.federation.scenario import small

from fedmosaic.errors import SettingsError
from fedmosaic.federation import RunFolder, plans
from fedmosaic.federation.comparison import rates_of


def test_a_variant_is_its_method_with_other_settings():
    base = small(seed=0)
    chosen = plans.variants(base, ["fedmosaic", "fedmosaic:relevance=uniform:training.steps=7", "sft"])
    plain, uniform, sft = chosen.values()
    assert (plain.method_settings, plain.training.steps) == ({}, 2)
    assert (uniform.method, uniform.method_settings, uniform.training.steps) == (
        "fedmosaic",
        {"relevance": "uniform"},
        7,
    )
    assert sft.method == "sft"


def test_an_unknown_setting_of_a_variant_is_named():
    with pytest.raises(SettingsError, match="stepps"):
        plans.variants(small(), ["sft:training.stepps=7"])


def test_runs_of_one_seed_come_together_and_lie_in_folders_of_their_own():
    chosen = plans.variants(small(), ["fedmosaic", "fedmosaic:adapter.alignment=my/bases"])
    laid = plans.plan(chosen, seeds=(0, 1), out=Path("out"))
    assert [each.seed for each in laid] == [0, 0, 1, 1]
    assert len({each.path for each in laid}) == 4
    assert all(each.path.parent == Path("out") and each.settings.seed == each.seed for each in laid)


def test_only_runs_finished_with_the_same_settings_are_taken(tmp_path):
    base, earlier = small(seed=0), tmp_path / "earlier"
    for each in plans.plan(plans.variants(base, ["sft", "fedavg", "ditto"]), seeds=(0,), out=earlier):
        folder = RunFolder.create(each.path, each.settings)
        (each.path / ".lock").touch()
        if each.variant != "ditto":
            folder.write_results({"self": each.variant})
    here = plans.variants(base, ["sft", "fedavg:training.steps=7", "ditto", "feddat"])
    here["fedavg"] = here.pop("fedavg:training.steps=7")  # of the same name as the earlier run, but not the same run
    laid = plans.plan(here, seeds=(0,), out=tmp_path / "here")
    taken = plans.take_finished(laid, earlier)
    assert [each.variant for each in taken] == ["sft"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["sft-seed0"]
    copy = RunFolder.resume(taken[0].path, taken[0].settings)
    assert copy.results() == {"self": "sft"}
    assert not (copy.path / ".lock").exists()
    assert plans.take_finished(laid, earlier) == []  # what is there stays


def test_learning_rates_are_tried_on_validation_samples_and_the_gate_is_left_alone():
    chosen = plans.variants(small(), ["fedmosaic"])
    tried = plans.rate_plans(chosen, factors=(0.5, 2.0), seed=3, out=Path("out"))["fedmosaic"]
    base = chosen["fedmosaic"].training
    for factor, each in tried.items():
        training = each.settings.training
        assert training.learning_rate == pytest.approx(factor * base.learning_rate)
        assert training.colora_learning_rate == pytest.approx(factor * base.colora_learning_rate)
        assert training.gate_learning_rate == base.gate_learning_rate
        assert (each.settings.seed, each.settings.evaluation.split) == (3, "validation")
    assert plans.rate_scores(tried) == {}  # nothing has been run


def test_rates_chosen_before_hold_for_a_methods_variants_too(tmp_path):
    chosen = plans.variants(small(), ["fedmosaic", "fedmosaic:gate=false", "sft"])
    path = tmp_path / "comparison.json"
    path.write_text('{"rates": {"fedmosaic": {"0.3": 0.5, "1": 0.4}, "sft": {"0.3": 0.4, "1": 0.4, "3": 0.6}}}')
    best = plans.at_best_rates(chosen, rates_of(path, chosen))
    default = small().training.learning_rate
    factors = {name: settings.training.learning_rate / default for name, settings in best.items()}
    assert factors == pytest.approx({"fedmosaic": 0.3, "fedmosaic:gate=false": 0.3, "sft": 3.0})
    with pytest.raises(SettingsError, match=r"'ditto'.*fedmosaic, sft"):
        rates_of(path, plans.variants(small(), ["ditto"]))


@pytest.mark.slow
def test_equal_flops_cost_no_more_than_local_training_and_not_a_step_less_than_possible():
    variants = plans.variants(small(), ["sft", "fedmosaic"])
    chosen = plans.at_equal_flops(variants)
    allowed = plans.flops_per_round(chosen["sft"])
    settings = chosen["fedmosaic"]
    more = settings.training.model_copy(update={"steps": settings.training.steps + 1})
    assert plans.flops_per_round(settings) <= allowed or settings.training.steps == 1
    assert plans.flops_per_round(settings.model_copy(update={"training": more})) > allowed
