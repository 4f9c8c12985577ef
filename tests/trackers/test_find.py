"""Trackers are found by name, and a missing library is told before anything is written."""

import sys

import pytest
from tests.cli.calling import call

from fedmosaic.errors import SettingsError
from fedmosaic.trackers import Tracker, known_trackers, make_trackers, tracker_class


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


class Entry:
    def __init__(self, name, value):
        self.name, self.value, self._value = name, "mine:Mine", value

    def load(self):
        return self._value


def entries(*found):
    return lambda group, name=None: [each for each in found if name in (None, each.name)]


def test_all_are_known_and_none_is_imported():
    assert known_trackers() == ["mlflow", "tensorboard", "trackio", "wandb"]
    assert not {"fedmosaic.trackers.wandb", "fedmosaic.trackers.trackio", "wandb", "trackio"} & set(sys.modules)


def test_one_of_another_package_is_found(monkeypatch):
    monkeypatch.setattr("fedmosaic.trackers.entry_points", entries(Entry("mine", Mine), Entry("wrong", dict)))
    assert tracker_class("mine") is Mine
    assert [type(each) for each in make_trackers(["mine", "mine"])] == [Mine]
    with pytest.raises(SettingsError, match=r"'wrong' .* is not a fedmosaic Tracker class"):
        tracker_class("wrong")


def test_a_name_that_is_not_known_is_told_with_the_nearest():
    with pytest.raises(SettingsError, match=r"unknown tracker 'tensorbord'; .*'tensorboard'"):
        make_trackers(["tensorbord"])


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_a_missing_library_is_told_with_its_extra_before_anything_is_written(monkeypatch, capsys, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    out = tmp_path / "run"
    status, _, told = call(monkeypatch, capsys, "run", "mosaic40-small", "--track", name, "--out", out)
    assert status == 2
    assert f"pip install 'fedmosaic[{name}]'" in told
    assert not out.exists()
