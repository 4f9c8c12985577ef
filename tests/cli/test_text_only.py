"""Own scenarios of unlike text models run with the defaults, and say what takes long before they start."""

import json

from tests.cli.calling import call
from tests.text_only import make_scenario

from fedmosaic.adapters.alignment import shipped


def test_unlike_text_models_run_with_the_defaults(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(shipped, "SAMPLES", 40)
    monkeypatch.setattr(shipped, "open_public", lambda home: pytest_fails("text models need no pictures"))
    monkeypatch.setenv("FEDMOSAIC_HOME", str(tmp_path / "home"))
    path = make_scenario(tmp_path, "llama", "gemma")
    command = ["run", path, "--rounds", 1, "--set", "training.steps=1", "--out", tmp_path / "out"]
    status, shown, error = call(monkeypatch, capsys, *command)
    assert status == 0, error
    told = "no bases are shipped for"
    assert told in shown
    assert "aligning them now on 40 public samples, once; kept in" in shown
    record = json.loads((tmp_path / "out" / "clients" / "alignment" / "alignment.json").read_text())
    assert (record["mode"], record["blocks"], record["samples"]) == ("joint", 2, 40)
    command[-1] = tmp_path / "again"
    status, shown, error = call(monkeypatch, capsys, *command)
    assert status == 0, error
    assert told not in shown


def pytest_fails(reason):
    raise AssertionError(reason)
