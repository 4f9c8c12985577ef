"""What can be asked of a finished run: ``evaluate`` with other weights, ``adapt`` to several tasks."""

import json

import pytest
from tests.cli.calling import call
from tests.federation.scenario import SMALL, small

from fedmosaic.errors import SettingsError
from fedmosaic.experiments.other_answers import slot_weights
from fedmosaic.federation import RunFolder, engines
from fedmosaic.methods.registry import make_method

pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture(scope="module")
def ditto(tmp_path_factory):
    """A finished run of Ditto, whose clients answer with their personal slot alone."""
    two = SMALL.model_copy(update={"clients": SMALL.clients[:2]})
    settings = small("ditto", rounds=1).model_copy(update={"scenario": two})
    folder = RunFolder.create(tmp_path_factory.mktemp("run") / "ditto", settings)
    engines.run(settings, folder)
    return folder.path


def test_the_weights_a_run_answers_with_give_its_own_scores_and_others_are_measured(monkeypatch, capsys, ditto):
    status, shown, error = call(monkeypatch, capsys, "evaluate", ditto, "--mix", "L,0.5,M", "--average", 1)
    assert status == 0, error
    found = json.loads((ditto / "answers.json").read_text())
    assert list(found) == ["as the run answers", "mix L", "mix 0.5", "mix M", "mean of 1 rounds"]
    results = json.loads((ditto / "results.json").read_text())
    as_run = {part: results[part]["last"] for part in ("self", "others")}
    assert found["as the run answers"] == as_run
    assert found["mix L"] == pytest.approx(as_run)
    assert found["mean of 1 rounds"] == pytest.approx(as_run)
    assert all(0 <= score <= 1 for scores in found.values() for score in scores.values())
    assert "mix 0.5" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mix", "L,2"], ["'2'", "from 0 to 1", "L,0.25,0.5,M"]),
        (["--mix", "half"], ["'half'", "from 0 to 1"]),
        (["--mix", "L,L"], ["given twice"]),
        (["--mix", "L", "--unseen"], ["--mix", "without --unseen"]),
        (["--average", "3"], ["--average 3", "last 2 rounds", "training.averaged_rounds=3"]),
    ],
)
def test_weights_that_cannot_be_are_refused(monkeypatch, capsys, ditto, arguments, words):
    status, _, error = call(monkeypatch, capsys, "evaluate", ditto, *arguments)
    assert status == 2
    for word in words:
        assert word in error


def test_l_is_what_a_client_knows_itself_and_m_what_it_received():
    method = make_method("fedmosaic", {})
    assert slot_weights(method, "L") == {"local": 1.0, "personal_global": 0.0}
    assert slot_weights(method, "M") == {"local": 0.0, "personal_global": 1.0}
    assert slot_weights(method, "0.25") == {"local": 0.75, "personal_global": 0.25}
    assert slot_weights(make_method("ditto", {}), "0.25") == {"personal": 0.75, "shared": 0.25}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("sft", {}), ("feddpa", {}), ("feddat", {}), ("fedmosaic", {"answers": "familiarity"})],
)
def test_methods_that_answer_otherwise_have_no_other_weights(name, settings):
    with pytest.raises(SettingsError, match="--mix"):
        slot_weights(make_method(name, settings), "0.5")


def test_a_run_is_adapted_to_several_tasks_and_each_has_its_file(monkeypatch, capsys, ditto):
    options = ["--tasks", "trend@lines,lowest-bar@bars", "--seeds", 1, "--steps", "0,1"]
    status, shown, error = call(monkeypatch, capsys, "adapt", ditto, *options, "--set", "training.learning_rate=0")
    assert status == 0, error
    assert "mean" in shown
    for task in ("trend@lines", "lowest-bar@bars"):
        found = json.loads((ditto / "adapt" / f"{task}.json").read_text())
        assert found["merged"].keys() == found["scratch"].keys() == {"0", "1"}
        assert found["merged"]["0"] == found["merged"]["1"]  # it trained with the learning rate that was given
        assert (ditto / "adapt" / f"{task}.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "trend@lines,trend@moon"], ["trend@moon"]),
        (["--tasks", "trend@lines", "--steps", "0,-1"], ["--steps", "'-1'"]),
        (["--tasks", "trend@lines", "--steps", "0"], ["--steps", "above 0"]),
        (["--tasks", "trend@lines", "--set", "adapter.rank=2"], ["adapter.rank=2", "training"]),
    ],
)
def test_what_cannot_be_adapted_to_is_refused_before_anything_is_trained(monkeypatch, capsys, ditto, arguments, words):
    before = set(ditto.rglob("*"))
    status, _, error = call(monkeypatch, capsys, "adapt", ditto, *arguments)
    assert status == 2, error
    for word in words:
        assert word in error
    assert set(ditto.rglob("*")) == before
