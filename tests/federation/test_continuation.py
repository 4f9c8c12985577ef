"""Runs that go on beyond their last round: equal to what they say they are equal to, and never half changed."""

import json
import shutil

import pytest
import torch
from tests.federation.scenario import SMALL

from fedmosaic.config import resolve
from fedmosaic.errors import RunError, SettingsError
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation import run_folder as run_folder_module
from fedmosaic.federation.continuation import check_can_go_on, continued, explanation, go_on, is_done
from fedmosaic.io import load_tensors
from fedmosaic.methods.registry import make_method

pytestmark = pytest.mark.slow  # whole runs

TIMES = ("seconds", "train_seconds", "evaluation_seconds")
PAIR = SMALL.model_copy(update={"clients": (SMALL.clients[3], SMALL.clients[2])})
CASES = {
    "dynamic": ("fedmosaic", ["method.probe_on=batches", "evaluation.milestones=2"]),
    "static": ("fedavg", ["scenario.protocol=static", "training.averaged_rounds=2", "participation.fraction=0.5"]),
}


def asked(case, *more):
    method, overrides = CASES[case]
    return resolve(PAIR, method=method, overrides=["rounds=2", "training.steps=1", *overrides, *more])


def run(path, settings):
    folder = RunFolder.create(path, settings)
    engines.run(settings, folder)
    return folder


def longer(path, rounds):
    """Go on with a run as the command line does."""
    folder = RunFolder(path)
    settings = continued(folder.settings, folder.settings.model_copy(update={"rounds": rounds}))
    check_can_go_on(path, settings)
    engines.run(settings, go_on(path, settings))
    return folder


def outcome(folder):
    """Everything that a run's numbers are: results, rounds, single scores, and the clients' last states."""
    states = {
        file.parent.name: {name: tensor.tolist() for name, tensor in load_tensors(file).items()}
        for file in sorted(folder.client_folder.glob(f"client-*/round-{folder.settings.rounds:04d}.safetensors"))
    }
    results = {key: value for key, value in folder.results().as_json().items() if key not in TIMES}
    return json.dumps([results, (folder.path / "rounds.csv").read_text(), folder.scores(), states])


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """What a run comes to that is made at once; each is run only once."""
    known = {}

    def outcome_of(settings):
        if settings.digest not in known:
            known[settings.digest] = outcome(run(tmp_path_factory.mktemp("fresh") / "run", settings))
        return known[settings.digest]

    return outcome_of


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A finished run of two rounds for each case; copied before it is changed."""
    return {case: run(tmp_path_factory.mktemp("ended") / case, asked(case)).path for case in CASES}


@pytest.fixture
def copy(ended, tmp_path):
    def copied(case):
        return shutil.copytree(ended[case], tmp_path / "copy")

    return copied


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_goes_on_equals_one_started_with_both_numbers(copy, fresh, tmp_path, case):
    before = RunFolder(copy(case)).settings
    (tmp_path / "copy" / "answers.json").write_text("{}")  # of evaluate --mix, at the end so far
    folder = longer(tmp_path / "copy", 4)
    assert (folder.settings.rounds, folder.settings.planned_rounds) == (4, 2)
    at_once = asked(case, "rounds=4", "planned_rounds=2")
    assert outcome(folder) == fresh(at_once)
    assert at_once.digest == folder.settings.digest
    assert "--rounds 4 --set planned_rounds=2" in explanation(before, folder.settings)
    assert json.loads((folder.path / "results.round-0002.json").read_text())["rounds"] == 2
    assert not (folder.path / "answers.json").exists()
    assert (folder.path / "answers.round-0002.json").is_file()


@pytest.mark.parametrize("case", ["static", pytest.param("dynamic", marks=pytest.mark.slow)])
def test_a_run_that_was_planned_longer_equals_one_that_ran_at_once(tmp_path, case):
    first = run(tmp_path / "parts", asked(case, "rounds=1", "planned_rounds=3"))
    before = first.settings
    folder = longer(tmp_path / "parts", 3)
    whole = run(tmp_path / "whole", asked(case, "rounds=3"))
    assert outcome(folder) == outcome(whole)
    assert "as planned: equal to a run that is started with --rounds 3" in explanation(before, folder.settings)


def test_more_rounds_do_not_spend_more_privacy_than_was_promised(copy, tmp_path):
    def sigma(folder):
        return folder.results().privacy.per_client[3].noise_multiplier

    planned = sigma(RunFolder(copy("dynamic")))
    folder = longer(tmp_path / "copy", 3)
    told = folder.results().privacy
    assert sigma(folder) == planned
    assert told.epsilon == pytest.approx(10)
    sketches = [
        load_tensors(folder.client_folder / "client-003" / f"round-{round_:04d}.safetensors")["memory|sketch"]
        for round_ in (2, 3)
    ]
    assert torch.equal(*sketches)  # the budget is spent: the last sketch is uploaded again


def test_a_run_that_is_to_stop_when_its_epsilon_is_spent_is_not_made_longer():
    def check(*more):
        settings = asked("dynamic", *more)
        make_method(settings.method, settings.method_settings).check(settings)

    stop = "method.privacy.when_spent=stop"
    check(stop, "rounds=3")
    check("rounds=3", "planned_rounds=2")
    check(stop, "rounds=3", "planned_rounds=2", "method.probe_on=arrivals")
    check(stop, "rounds=3", "planned_rounds=2", "method.privacy.noise_multiplier=5")
    with pytest.raises(
        SettingsError, match=r"3 rounds of sketches would cost epsilon = 12.*planned for 2 rounds and 10"
    ):
        check(stop, "rounds=3", "planned_rounds=2")


def test_an_interrupted_run_can_be_made_longer_too(fresh, tmp_path, monkeypatch):
    settings = asked("dynamic")
    folder = RunFolder.create(tmp_path / "run", settings)
    checkpoint = RunFolder.save_checkpoint

    def stopped(self, round_, *rest):
        checkpoint(self, round_, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "save_checkpoint", stopped)
        engines.run(settings, folder)
    assert outcome(longer(tmp_path / "run", 3)) == fresh(asked("dynamic", "rounds=3", "planned_rounds=2"))


@pytest.mark.parametrize(
    "moment",
    [pytest.param("before the settings", marks=pytest.mark.slow), "after the settings", "while measuring again"],
)
def test_a_kill_while_it_is_changed_leaves_a_run_that_can_be_resumed(copy, fresh, monkeypatch, moment):
    path = copy("static")
    before = outcome(RunFolder(path))
    write = run_folder_module.write_atomically

    def killed(*arguments):
        if moment == "after the settings":
            write(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if moment == "while measuring again":
            patch.setattr("fedmosaic.federation.server.Server._measure", killed)
        else:
            patch.setattr(run_folder_module, "write_atomically", killed)
        longer(path, 3)
    folder = RunFolder(path)
    settings = folder.settings
    assert settings.rounds == (2 if moment == "before the settings" else 3)
    assert folder.results() is None
    check_can_go_on(path, settings)
    engines.run(settings, go_on(path, settings))
    if moment == "before the settings":
        assert outcome(folder) == before
        longer(path, 3)
    assert outcome(folder) == fresh(asked("static", "rounds=3", "planned_rounds=2"))


def listing(path):
    return sorted((str(file), file.stat().st_mtime_ns) for file in path.rglob("*") if file.name != ".lock")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["rounds=1"], ["has 2 rounds", "cannot end after 1"]),
        (["rounds=3", "seed=7"], ["seed: 0 there, 7 asked", "only rounds can grow"]),
        (["rounds=3", "planned_rounds=5"], ["planned_rounds: 2 there, 5 asked"]),
        (["planned_rounds=5"], ["planned_rounds: 0 there, 5 asked"]),
        (["rounds=3", "scenario.protocol=dynamic"], ["protocol"]),
    ],
)
def test_what_cannot_go_on_is_refused_and_left_alone(copy, overrides, words):
    path = copy("static")
    before = listing(path)
    with pytest.raises(SettingsError) as error:
        continued(RunFolder(path).settings, asked("static", *overrides))
    assert all(word in str(error.value) for word in words)
    assert listing(path) == before


@pytest.mark.parametrize(
    ("remove", "words"),
    [("checkpoints", "no checkpoints any more"), ("clients/client-002", "client 2 lacks its state")],
)
def test_a_finished_run_without_its_states_is_refused_and_left_alone(copy, remove, words):
    path = copy("dynamic")
    shutil.rmtree(path / remove)
    before = listing(path)
    settings = continued(asked("dynamic"), asked("dynamic", "rounds=3"))
    with pytest.raises((SettingsError, RunError), match=words):
        check_can_go_on(path, settings)
    assert listing(path) == before
    assert is_done(path, asked("dynamic"))
    assert not is_done(path, settings)


def test_rounds_that_nobody_takes_part_in_are_refused():
    leaving = PAIR.model_copy(update={"clients": tuple(c.model_copy(update={"leaves": 3}) for c in PAIR.clients)})
    before = resolve(leaving, rounds=2)
    assert continued(before, resolve(leaving, rounds=3)).horizon == 2
    with pytest.raises(SettingsError, match="no client takes part in round 4"):
        resolve(leaving, rounds=4)


def test_a_client_that_joins_after_the_planned_rounds_is_refused():
    late = PAIR.clients[0].model_copy(update={"joins": 5})
    scenario = PAIR.model_copy(update={"clients": (late, PAIR.clients[1])})
    with pytest.raises(SettingsError, match="client 3 joins after the last planned round; raise planned_rounds"):
        resolve(scenario, overrides=["rounds=6", "planned_rounds=4"])
    assert resolve(scenario, overrides=["rounds=6", "planned_rounds=5"]).horizon == 5


def test_a_plain_resume_of_another_command_is_as_strict_as_before(ended):
    with pytest.raises(SettingsError, match="rounds: 2 there, 3 asked"):
        RunFolder.resume(ended["static"], asked("static", "rounds=3"))
