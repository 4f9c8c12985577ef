"""W&B and Trackio, by modules with the signatures of theirs that take down what they are given."""

import sys
from types import ModuleType

import numpy as np
import pytest
from tests.trackers.recorder import SCORES, loss, pair, tell

from fedmosaic.trackers import make_trackers


class Image:
    def __init__(self, data_or_path, mode=None, caption=None):
        self.pixels = data_or_path


class Run:
    def __init__(self):
        self.rows, self.axes, self.exit_code = [], {}, None

    def log(self, data, step=None, commit=None):
        self.rows.append((data, step))

    def define_metric(self, name, step_metric=None, *, hidden=None):
        self.axes[name] = step_metric

    def finish(self, exit_code=None):
        self.exit_code = exit_code or 0

    def series(self, name, axis):
        return {row[axis]: row[name] for row, _ in self.rows if name in row}


@pytest.fixture
def wandb(monkeypatch):
    module = ModuleType("wandb")
    module.runs, module.Image = [], Image

    def init(entity=None, project=None, dir=None, id=None, name=None, *, config=None, reinit=None, resume=None):  # noqa: A002
        module.runs.append((Run(), {"project": project, "dir": dir, "id": id, "name": name, "config": config}))
        assert (reinit, resume) == ("create_new", "allow")
        return module.runs[-1][0]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return module


@pytest.fixture
def trackio(monkeypatch):
    module = ModuleType("trackio")
    module.runs, module.Image = [], Image

    def init(project, name=None, group=None, space_id=None, *, config=None, resume="never", embed=True):
        assert (resume, embed) == ("allow", False)
        module.runs.append((Run(), {"project": project, "name": name, "config": config}))
        return module.runs[-1][0]

    module.init = init
    monkeypatch.setitem(sys.modules, "trackio", module)
    monkeypatch.delenv("TRACKIO_PROJECT", raising=False)
    return module


def losses(client):
    return {2 * (round_ - 1) + step: loss(client, round_, step) for round_ in (1, 2) for step in (1, 2)}


def test_wandb_gets_every_number_over_its_own_axis(wandb, tmp_path):
    (tracker,) = make_trackers(["wandb"])
    tell(tracker, tmp_path)
    ((run, given),) = wandb.runs
    assert given["project"] == "fedmosaic"
    assert given["name"] == "pair-fedmosaic-seed0"
    assert given["dir"] == str(tmp_path)
    assert given["config"]["training.steps"] == pair().training.steps
    assert run.series("loss/client-3", "step/client-3") == losses(3)
    assert run.series("scores/self", "round") == {round_: sum(each) / 2 for round_, each in SCORES.items()}
    assert run.series("cost/bytes-down", "round") == {1: 8, 2: 16}
    assert run.axes["loss/client-3"] == "step/client-3"
    assert run.axes["privacy/epsilon"] == "round"
    (image,) = run.series("relevance", "round").values()
    assert image.pixels.shape == (256, 256, 3)
    assert image.pixels.dtype == np.uint8
    assert run.exit_code == 0


def test_a_run_that_goes_on_is_the_same_run_and_one_that_stopped_says_so(wandb, tmp_path):
    for start, until in ((0, 1), (1, 2)):
        (tracker,) = make_trackers(["wandb"])
        tell(tracker, tmp_path, start=start, until=until, stopped=until == 1)
    (first, one), (second, two) = wandb.runs
    assert one["id"] == two["id"]
    assert (first.exit_code, second.exit_code) == (1, 0)
    (elsewhere,) = make_trackers(["wandb"])
    (tmp_path / "other").mkdir()
    tell(elsewhere, tmp_path / "other")
    assert wandb.runs[-1][1]["id"] != one["id"]


def test_trackio_gets_every_number_with_its_step(trackio, tmp_path):
    (tracker,) = make_trackers(["trackio"])
    tell(tracker, tmp_path)
    ((run, given),) = trackio.runs
    assert given["project"] == "fedmosaic"
    assert given["name"].startswith("pair-fedmosaic-seed0-")
    assert {step: row["loss/client-0"] for row, step in run.rows if "loss/client-0" in row} == losses(0)
    assert {step: row["scores/others"] for row, step in run.rows if "scores/others" in row} == {
        round_: sum(SCORES[round_]) / 4 for round_ in (0, 2)
    }
    assert [step for row, step in run.rows if "relevance" in row] == [1]
    assert run.exit_code == 0
    assert tracker.view == 'trackio show --project "fedmosaic"'
