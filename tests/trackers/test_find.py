"""Trackers are found by name, and a missing library is told before anything is written."""

import subprocess
import sys

import pytest
from tests.cli.calling import call

from fedmosaic.errors import SettingsError
from fedmosaic.registry import TRACKERS
from fedmosaic.trackers import Tracker, make_trackers


class Mine(Tracker):
    name = "mine"

    def open(self, run, parameters):
        pass

    def scalars(self, values, *, axis, at):
        pass

    def image(self, name, pixels, *, at):
        pass

    def close(self, *, done):
        pass


def test_all_are_known_and_none_is_imported():
    code = "import sys; from fedmosaic.registry import TRACKERS; print(*TRACKERS); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, modules = done.stdout.splitlines()
    assert names.split() == ["mlflow", "tensorboard", "trackio", "wandb"]
    assert not {"fedmosaic.trackers.wandb", "fedmosaic.trackers.trackio", "wandb", "mlflow"} & set(modules.split())


def test_one_that_is_registered_is_found_and_made_once():
    TRACKERS.register(Mine)
    try:
        assert [type(each) for each in make_trackers(["mine", "mine"])] == [Mine]
    finally:
        TRACKERS.unregister("mine")
    with pytest.raises(SettingsError, match="expected a class derived from"):
        TRACKERS.register(type("Other", (), {"name": "other"}))


def test_a_name_that_is_not_known_is_told_with_the_nearest(monkeypatch, capsys, tmp_path):
    out = tmp_path / "run"
    status, _, told = call(monkeypatch, capsys, "run", "mosaic40-small", "--track", "tensorbord", "--out", out)
    assert status == 2
    assert "unknown tracker 'tensorbord'" in told
    assert "'tensorboard'" in told
    assert not out.exists()


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_a_missing_library_is_told_with_its_extra_before_anything_is_written(monkeypatch, capsys, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    out = tmp_path / "run"
    status, _, told = call(monkeypatch, capsys, "run", "mosaic40-small", "--track", name, "--out", out)
    assert status == 2
    assert f"pip install 'fedmosaic[{name}]'" in told
    assert not out.exists()
