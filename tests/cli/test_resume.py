"""``run --resume``, and what other commands say about a run whose data have changed or have nothing to score."""

import json

import pytest
import tomli_w
from tests.cli.calling import call
from tests.text_only import make_data, make_models

from fedmosaic.federation import RunFolder

pytestmark = pytest.mark.slow  # whole runs

SHORT = ["--set", "training.steps=1", "--set", "adapter.alignment=none", "--set", "adapter.rank=2", "--quiet"]


@pytest.fixture
def own(tmp_path):
    """A scenario file of two clients with text models, without settings."""
    make_models(tmp_path, "llama", "gemma")
    make_data(tmp_path / "data")
    clients = [
        {"id": 0, "model": str(tmp_path / "llama"), "tasks": ["Capitals-0"]},
        {"id": 1, "model": str(tmp_path / "gemma"), "tasks": ["Colours-0"]},
    ]
    path = tmp_path / "own.toml"
    path.write_text(tomli_w.dumps({"benchmark": "published", "data": str(tmp_path / "data"), "clients": clients}))
    return path


@pytest.fixture
def program(monkeypatch, capsys):
    return lambda *arguments: call(monkeypatch, capsys, *arguments)


def nothing(_):
    pass


def empty(path):
    path.mkdir()


def file(path):
    path.write_text("mine")


def something(path):
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def no_settings_file(path):
    (path / "settings.toml").mkdir(parents=True)


@pytest.mark.parametrize("scenario", [[], ["demo"]])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nothing, "there is no such folder"),
        (empty, "it is empty"),
        (file, "it is a file"),
        (something, "it holds something else"),
        (no_settings_file, "it holds something else"),
    ],
)
def test_without_a_run_there_is_nothing_to_resume(program, tmp_path, make, words, scenario):
    out = tmp_path / "out"
    make(out)
    before = sorted(tmp_path.rglob("*"))
    status, shown, error = program("run", *scenario, "--resume", "--rounds", 2, "--out", out)
    assert (status, shown) == (2, "")
    assert f"no run in {out} to go on with: {words}" in error
    assert sorted(tmp_path.rglob("*")) == before


def listing(out):
    return sorted((str(path), path.stat().st_mtime_ns) for path in out.rglob("*") if path.name != ".lock")


@pytest.mark.parametrize("reference", [[], pytest.param(["--reference"], marks=pytest.mark.slow)])
def test_a_finished_run_says_so_and_goes_on_with_its_reference(program, own, tmp_path, reference):
    out = tmp_path / "out"
    assert program("run", own, "--rounds", 1, *reference, "--out", out, *SHORT)[0] == 0
    before = listing(out)
    for again in ([], [own, *SHORT[:-1]], ["--rounds", 1], reference):
        status, shown, error = program("run", *again, "--resume", "--out", out)
        assert status == 0, error
        assert shown.count("\n") == 1
        assert f"{out} is finished: round 1 of 1; go on with it: fedmosaic run --resume --rounds" in shown
    for wrong, words in (
        (["--rounds", 0], "rounds"),
        (["--seed", 3], "seed: 0 there, 3 asked"),
        (["--method", "sft"], "method: 'fedmosaic' there, 'sft' asked"),
        (["--rounds", 2, "--set", "training.steps=2"], "training.steps: 1 there, 2 asked"),
        (["demo"], "scenario"),
    ):
        status, _, error = program("run", *wrong, "--resume", "--out", out)
        assert status == 2
        assert words in error
    assert listing(out) == before

    status, shown, error = program("run", "--resume", "--rounds", 2, "--out", out)
    assert status == 0, error
    assert "going on to round 2 instead of 1: the run was planned for 1," in shown
    for folder in (RunFolder(out), *(RunFolder(out / "reference") for _ in reference)):
        assert (folder.settings.rounds, folder.settings.planned_rounds) == (2, 1)
        assert folder.results().rounds == 2
    assert "is finished: round 2 of 2" in program("run", "--resume", "--out", out)[1]
    status, _, error = program("run", "--resume", "--rounds", 1, "--out", out)
    assert status == 2
    assert "has 2 rounds; it cannot end after 1" in error


@pytest.mark.slow
def test_a_reference_that_was_left_behind_is_brought_up_to_the_run(program, own, tmp_path, monkeypatch):
    """As after a kill between the run's change and its reference's."""
    out = tmp_path / "out"
    assert program("run", own, "--rounds", 1, "--reference", "--out", out, *SHORT)[0] == 0
    settings = RunFolder(out).settings
    RunFolder(out).change(settings.model_copy(update={"rounds": 2, "planned_rounds": 1}))
    status, _, error = program("run", "--resume", "--out", out, "--quiet")
    assert status == 0, error
    assert json.loads((out / "reference" / "results.json").read_text())["rounds"] == 2


def test_a_run_that_lost_only_its_report_gets_it_back(program, own, tmp_path):
    out = tmp_path / "out"
    assert program("run", own, "--rounds", 1, "--out", out, *SHORT)[0] == 0
    (out / "report.html").unlink()
    assert program("run", "--resume", "--out", out)[0] == 0
    assert (out / "report.html").is_file()


def test_changed_data_or_models_are_refused_where_they_matter(program, own, tmp_path):
    out = tmp_path / "out"
    assert program("run", own, "--rounds", 1, "--out", out, *SHORT)[0] == 0
    tests = tmp_path / "data" / "dataset" / "Capitals" / "test" / "dataset-0.json"
    kept = tests.read_text()
    tests.write_text(kept.replace("paris", "lyon"))
    before = listing(out)
    for command in (["run", "--resume", "--rounds", 2, "--out", out], ["evaluate", out]):
        status, _, error = program(*command)
        assert status == 2
        assert f"changed since the run in {out} began: test samples of Capitals-0;" in error
    assert listing(out) == before
    tests.write_text(kept)
    assert program("evaluate", out)[0] == 0

    config = tmp_path / "llama" / "tokenizer_config.json"
    config.write_text(config.read_text() + "\n")
    for command in (
        ["run", "--resume", "--rounds", 2, "--out", out],
        ["evaluate", out],
        ["adapt", out, "--task", "Colours-0", "--seeds", 1],
        ["export", out, "--client", 0, "--as", "lora", "--out", tmp_path / "lora"],
        ["ask", out, "--client", 0, "what color is grass ?"],
    ):
        status, _, error = program(*command)
        assert status == 2, command
        assert f"base model {tmp_path / 'llama'}" in error
    assert listing(out) == before
    assert program("ask", out, "--client", 1, "what color is grass ?")[0] == 0  # its model is as it was


def test_own_data_have_nothing_unseen_and_maybe_no_choices(program, own, tmp_path):
    out = tmp_path / "out"
    assert program("run", own, "--rounds", 1, "--out", out, *SHORT)[0] == 0
    status, _, error = program("evaluate", out, "--unseen")
    assert status == 2
    assert f"nothing is unseen in {tmp_path / 'data'}" in error
    assert json.loads((out / "results.json").read_text())["unseen"] is None
    changes = ["--set", 'scenario.open_tasks=["Colours-0"]']
    assert program("run", own, "--rounds", 1, "--out", tmp_path / "open", *changes, *SHORT)[0] == 0
    status, _, error = program("evaluate", tmp_path / "open", "--generated")
    assert status == 2
    assert "none of the 2 task(s) has options" in error
