import json
import re

import pytest

from fedmosaic.evaluation.statistics import mean_interval
from fedmosaic.experiments.comparison import compare, write_comparison
from fedmosaic.experiments.sweep import Plan
from fedmosaic.federation import RunFolder
from fedmosaic.report import comparison_page


@pytest.fixture
def plans(make_run, tmp_path):
    """Three methods, two seeds; fedmosaic is ahead; the last run of feddat is not done."""
    laid = []
    for method, gain in (("fedmosaic", 0.4), ("sft", 0.2), ("feddat", 0.3)):
        for seed in (0, 1):
            upto = 3 if (method, seed) == ("feddat", 1) else None
            path = make_run(tmp_path / f"{method}-{seed}", method=method, gain=gain, seed=seed, upto=upto)
            laid.append(Plan(method, seed, RunFolder(path).settings, path))
    return laid


def test_each_method_is_set_against_the_best_other_one(plans):
    found = compare(plans, budget="steps")
    rows = {row["method"]: row for row in found["rows"]}
    assert [rows[name]["runs"] for name in ("fedmosaic", "sft", "feddat")] == [2, 2, 1]
    # A rival counts only if it has all of the method's seeds.
    assert rows["fedmosaic"]["against_rivals"]["self"]["rival"] == "sft"
    assert rows["feddat"]["against_rivals"]["self"]["rival"] == "fedmosaic"
    lead = rows["fedmosaic"]["against_rivals"]["self"]
    wanted = rows["fedmosaic"]["self_last"]["mean"] - rows["sft"]["self_last"]["mean"]
    assert lead["mean"] == pytest.approx(wanted)
    assert lead["low"] <= lead["mean"] <= lead["high"]


def test_rows_are_in_the_order_asked_for_whichever_run_is_done_first(plans):
    found = compare([plans[5], *plans], budget="steps")  # the run of feddat that is not done comes first
    assert [row["method"] for row in found["rows"]] == ["feddat", "fedmosaic", "sft"]


def test_base_models_have_one_score_a_seed(plans):
    known = {each.seed: RunFolder(each.path).results().initial.self_ for each in plans[:2]}
    found = compare(plans, budget="steps")["initial"]["self"]
    mean, half = mean_interval(list(known.values()))
    assert (found["mean"], found["ci95"]) == pytest.approx((mean, half))


def test_a_variant_is_no_rival_of_its_own_method(make_run, tmp_path):
    laid = []
    for variant, gain in (("fedmosaic", 0.4), ("fedmosaic:gate=false", 0.5), ("sft", 0.2)):
        path = make_run(tmp_path / variant, method=variant.partition(":")[0], gain=gain)
        laid.append(Plan(variant, 0, RunFolder(path).settings, path))
    rows = compare(laid, budget="steps")["rows"]
    assert [row["against_rivals"]["others"]["rival"] for row in rows] == ["sft", "sft", "fedmosaic:gate=false"]


def test_the_page_shows_every_method_and_loads_nothing(plans, tmp_path):
    comparison = compare(plans, budget="flops")
    write_comparison(tmp_path, comparison)
    assert json.loads((tmp_path / "comparison.json").read_text()) == comparison
    header, *lines = (tmp_path / "comparison.csv").read_text().splitlines()
    assert "self_rival" in header
    assert len(lines) == 3
    html = comparison_page(comparison, plans, tmp_path / "comparison.html").read_text()
    assert not re.search(r"(src|href)\s*=|https?://|url\(", html)
    for row in comparison["rows"]:
        assert html.count(row["method"]) >= 6  # two tables and four charts
        assert f"{100 * row['self_last']['mean']:.1f}" in html
    assert "equal FLOPs" in html
    assert html.count("<svg") == 4


def test_hostile_names_are_escaped(make_run, tmp_path):
    path = make_run(tmp_path / "run", title="<script>alert(1)</script>")
    laid = [Plan("fedmosaic:<b>", 0, RunFolder(path).settings, path)]
    html = comparison_page(compare(laid, budget="steps"), laid, tmp_path / "page.html").read_text()
    assert "<script>alert" not in html
    assert "fedmosaic:<b>" not in html
    assert "fedmosaic:&lt;b&gt;" in html


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_page_says_which_questions_were_asked(make_run, tmp_path, split):
    runs = {method: make_run(tmp_path / method, method=method, split=split) for method in ("fedmosaic", "sft")}
    laid = [Plan(method, 0, RunFolder(path).settings, path) for method, path in runs.items()]
    html = comparison_page(compare(laid, budget="steps"), laid, tmp_path / "page.html").read_text()
    assert f"on every {split} question." in html
    assert f"over tasks and {split} questions" in html
    assert ({"test": "validation", "validation": "test"}[split] + " question") not in html
