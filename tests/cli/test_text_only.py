"""Own scenarios of unlike text models run with the defaults, and say what takes long before they start."""

import json

import pytest
from tests.cli.calling import call
from tests.text_only import make_scenario

from fedmosaic.federation import alignment

pytestmark = pytest.mark.slow  # whole runs

PUBLIC = ("feddistill", "fedmkt", "hetero-ssfl", "perada", "takfl")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run two text models on their own data with no setting but how short it is; return what was printed."""

    def no_pictures(_):
        raise AssertionError("text models need no pictures")

    monkeypatch.setattr(alignment, "SAMPLES", 40)
    monkeypatch.setattr(alignment, "open_public", no_pictures)
    monkeypatch.setenv("FEDMOSAIC_HOME", str(tmp_path / "home"))

    def run(path, out):
        short = ["--rounds", 2, "--set", "training.steps=1"]
        status, shown, error = call(monkeypatch, capsys, "run", path, *short, "--out", tmp_path / out)
        assert status == 0, error
        assert json.loads((tmp_path / out / "results.json").read_text())["self"]["per_client"]
        return shown

    return run


@pytest.mark.parametrize("other", ["gemma", pytest.param("phi", marks=pytest.mark.slow)])
def test_unlike_text_models_are_aligned_on_text_and_this_is_said_once(run, tmp_path, other):
    path = make_scenario(tmp_path, "llama", other)
    told = "no bases are shipped for"
    shown = run(path, "out")
    assert told in shown
    assert "aligning them now on 40 public samples, once; kept in" in shown
    record = json.loads((tmp_path / "out" / "clients" / "alignment" / "alignment.json").read_text())
    assert (record["mode"], record["blocks"], record["samples"]) == ("joint", 2, 40)
    assert told not in run(path, "again")


def test_text_models_without_a_common_linear_run_all_the_same(run, tmp_path):
    shown = run(make_scenario(tmp_path, "llama", "neox"), "out")
    assert "each learns from its own architecture only" in shown
    assert not (tmp_path / "out" / "clients" / "alignment").exists()


@pytest.mark.parametrize("asked", [["--method", name] for name in PUBLIC] + [["--set", "scenario.reference=takfl"]])
def test_public_samples_that_the_data_lack_are_missed_before_anything_is_written(monkeypatch, capsys, tmp_path, asked):
    monkeypatch.setenv("FEDMOSAIC_HOME", str(tmp_path / "home"))
    status, _, error = call(
        monkeypatch, capsys, "run", scenario := make_scenario(tmp_path, "llama"), *asked, "--out", tmp_path / "out"
    )
    assert status == 2
    assert 'public = "NAME-ID"' in error
    assert not (tmp_path / "out").exists()
    few = ["--set", "scenario.public=Colours-0", "--set", "training.steps=100"]
    status, _, error = call(monkeypatch, capsys, "run", scenario, *asked, *few, "--out", tmp_path / "out")
    assert status == 2
    assert "public samples; this method asks for" in error
    assert not (tmp_path / "out").exists()
