"""What people type and write: brackets, paths, wrong names and lists. Each is one line, or simply works."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from tests.cli.test_cli import call

from fedmosaic.cli.console import PlainConsole

NASTY = "[/oops] [bold]b[/] [red]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", NASTY], [NASTY]),
        (["run", f"{NASTY}.toml"], [f"{NASTY}.toml", "No such file"]),
        (["run", "demo", "--set", f"{NASTY}=1"], [NASTY]),
        (["run", "demo", "--method", NASTY], [NASTY]),
        (["evaluate", NASTY], [NASTY]),
        (["tasks", "show", NASTY], [NASTY]),
        (["tasks", "list", "--data", NASTY], [NASTY]),
        ([NASTY], ["[/oops]"]),
        (["run", "--rounds", NASTY], ["[/oops]"]),
        (["run", "demo", "--engine", "in-proces"], ["'in-proces'", "did you mean 'in-process'"]),
        (["run", "demo", "--set", "adapter.gate=scaler"], ["'scaler'", "did you mean 'scalar'"]),
        (["run", "demo", "--set", "method.sanitise=privat"], ["sanitise = 'privat'", "did you mean 'private'"]),
        (["run", "demo", "--set", "method.sketch=projektion"], ["did you mean 'projection'"]),
        (["run", "demo", "--set", "method.privacy.epsilonn=1"], ["privacy.epsilonn", "did you mean 'epsilon'"]),
        (["run", "demo", "--set", "method.temprature=1"], ["did you mean 'temperature'"]),
        (["run", "demo", "--set", "adapter.alignment=jiont"], ["did you mean 'joint'"]),
        (["run", "demo", "--set", "scenario.reference=stf"], ["'stf'", "did you mean 'sft'"]),
        (["run", "demo", "--set", "scenario.probe=tiny-lama"], ["'tiny-lama'", "did you mean 'tiny-llama'"]),
        (["run", "demo", "--set", "scenario.data=x"], ["'data'", 'benchmark = "published"']),
        (["run", "mosaic40-dirichlet-100-1.2.3"], ["mosaic40-dirichlet-100-1.2.3", "above 0"]),
        (["run", "mosaic40-dirichlet-10000"], ["10000 clients", "8948"]),
        (["align", "mosaic40", "--out", "a", "--mode", "pivott"], ["did you mean 'pivot'"]),
        (["compare", "demo", "--methods", "sft,fedavgg"], ["'fedavgg'", "did you mean 'fedavg'"]),
        (["compare", "demo", "--methods", "sft,sft"], ["--methods", "sft is given twice"]),
        (["compare", "demo", "--methods", "fedmosaic:gate=false,fedmosaic:gate = false"], ["same settings"]),
        (["compare", "demo", "--methods", ","], ["--methods"]),
        (["compare", "demo", "--seeds", "0,0"], ["--seeds", "0 is given twice"]),
        (["compare", "demo", "--seeds", "-1"], ["--seeds", "'-1'"]),
        (["compare", "demo", "--seeds", ""], ["--seeds"]),
        (["compare", "demo", "--seeds", "4294967296"], ["--seeds", "4294967296"]),
        *((["compare", "demo", f"--rates={bad}"], ["--rates", bad]) for bad in ("0", "-1", "nan", "inf", "1,1.0")),
        (["compare", "demo", "--jobs", "0"], ["--jobs"]),
        (["compare", "demo", "--budget", "flop"], ["did you mean 'flops'"]),
        (["export", "x", "--client", "0", "--out", "o", "--as", "marged"], ["did you mean 'merged'"]),
    ],
)
def test_it_is_one_message_and_nothing_is_written(monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, _, error = call(monkeypatch, capsys, *arguments)
    assert status == 2, error
    for word in words:
        assert word in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_errors_of_several_lines_and_control_characters_are_one_visible_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    _, _, error = call(monkeypatch, capsys, "evaluate", "a\nb\x1b[31m")
    assert error.count("\n") == 1
    assert "\x1b" not in error
    assert r"\x1b[31m" in error


def test_a_console_prints_tables_and_spinners_as_they_are_written(capsys):
    console = PlainConsole()
    table = Table(NASTY, title=NASTY, caption=NASTY)
    table.add_row(NASTY)
    with console.status(NASTY):
        console.print(table)
    console.say(NASTY)
    assert capsys.readouterr().out.count("[/oops]") == 5


def test_help_shows_defaults_in_brackets(monkeypatch, capsys):
    _, text, _ = call(monkeypatch, capsys, "run", "--help")
    assert "[default: fedmosaic]" in " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    "cache", [{"FEDMOSAIC_HOME": "file"}, {"FEDMOSAIC_HOME": "file/below"}, {"XDG_CACHE_HOME": "file"}, {}]
)
def test_a_cache_folder_that_cannot_be_is_one_line(monkeypatch, capsys, tmp_path, cache):
    (tmp_path / "file").touch()
    for name in ("FEDMOSAIC_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # a user without an entry, and no HOME
    for name, value in cache.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    status, _, error = call(monkeypatch, capsys, "tasks", "list")
    assert (status, error.count("\n")) == (2, 1), error
    assert "FEDMOSAIC_HOME" in error


def test_trouble_of_the_machine_is_one_line(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/disk/file")

    monkeypatch.setattr("fedmosaic.data.benchmark.load_benchmark", full)
    assert call(monkeypatch, capsys, "tasks", "list")[::2] == (1, "failed: No space left on device: /disk/file\n")


# ---- own data and paths ----------------------------------------------------------------------------------------------


def own_data(folder, sizes):
    for name, size in sizes.items():
        for split in ("train", "test"):
            place = folder / "dataset" / name / split
            place.mkdir(parents=True)
            turns = [[{"value": f"is {i} of {name} even ?"}, {"value": "no" if i % 2 else "yes"}] for i in range(size)]
            (place / "dataset-0.json").write_text(json.dumps([{"conversations": turn} for turn in turns]))


SETTINGS = """
benchmark = "published"
data = "data"
[settings]
rounds = 1
[settings.training]
steps = 1
[settings.adapter]
blocks = 2
[[clients]]
id = 0
model = "tiny-llama"
tasks = ["A-0", "[bold]B-0"]
"""


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "[red]my"
    own_data(folder / "data", {"A": 12, "[bold]B": 3})
    (folder / "mine.toml").write_text(SETTINGS)
    return folder / "mine.toml"


@pytest.mark.slow
def test_a_run_with_relative_paths_and_brackets_is_opened_from_anywhere(monkeypatch, capsys, tmp_path, mine):
    monkeypatch.chdir(mine.parent.parent)
    status, _, error = call(monkeypatch, capsys, "run", mine.relative_to(tmp_path), "--quiet", "--out", "[/out]")
    assert (status, error) == (0, "")
    monkeypatch.chdir("/")
    out = tmp_path / "[/out]"
    for verb in (["report", out], ["evaluate", out], ["ask", out, "--client", 0, "what [/x] ?"]):
        status, text, error = call(monkeypatch, capsys, *verb)
        assert status == 0, error
    status, text, _ = call(monkeypatch, capsys, "evaluate", out)
    assert "[bold]B-0" in text
    status, text, error = call(
        monkeypatch, capsys, "export", out, "--client", 0, "--as", "lora", "--out", tmp_path / "[/l]"
    )
    assert status == 0, error
    assert f"wrote {tmp_path / '[/l]'}" in text


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["", pytest.param("sft", marks=pytest.mark.slow)])
def test_options_that_a_model_reads_alike_are_told_once_and_score_as_a_guess(
    monkeypatch, capsys, tmp_path, mine, reference
):
    conversation = [{"value": "which ? Choice list:[Polish, polish]"}, {"value": "Polish"}]
    file = mine.parent / "data" / "dataset" / "A" / "test" / "dataset-0.json"
    file.write_text(json.dumps([{"conversations": conversation}] * 3))
    status, text, error = call(
        monkeypatch, capsys, "run", mine, "--set", f"scenario.reference={reference}", "--out", tmp_path / "o"
    )
    assert status == 0, error
    told = (
        "A-0: 3 of 3 test samples have options that are the same words to tiny-llama (test-0-0: ['Polish', 'polish'])"
    )
    assert text.count(told) == 1
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    assert results["self"]["per_task"]["A-0"] == 0.5


@pytest.mark.slow
def test_own_data_are_divided_when_they_are_read(monkeypatch, capsys, tmp_path, mine):
    run = ["run", f"{mine}-dirichlet-5-0.1", "--quiet", "--out", tmp_path / "out"]
    status, _, error = call(monkeypatch, capsys, *run)
    assert (status, error) == (0, "")
    per_client = json.loads((tmp_path / "out" / "results.json").read_text())["self"]["per_client"]
    assert len(per_client) == 5
    assert call(monkeypatch, capsys, *run, "--resume")[0] == 0  # drawn again, it is the same
    status, _, error = call(monkeypatch, capsys, "run", f"{mine}-dirichlet-50", "--out", tmp_path / "more")
    assert status == 2
    assert "50 clients" in error
    assert not (tmp_path / "more").exists()


def test_a_public_or_open_task_that_is_not_there_is_named(monkeypatch, capsys, tmp_path, mine):
    for key, value in (("public", "A-1"), ("open_tasks", ["A-1"])):
        change = f"scenario.{key}={json.dumps(value)}"
        status, _, error = call(monkeypatch, capsys, "run", mine, "--set", change, "--out", tmp_path / "out")
        assert status == 2
        assert "'A-1'; did you mean A-0" in error
    assert not (tmp_path / "out").exists()


def test_one_sample_is_written_and_its_question_is_one_that_ask_takes(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, text, _ = call(monkeypatch, capsys, "tasks", "show", "category@photo", "--sample", 3, "--out", "one.png")
    assert status == 0
    assert "question: <image> what kind" in text
    assert "answer: " in text
    several = ["odd-one-out@openmoji", "--sample", 0, "--out", "o.png"]
    assert call(monkeypatch, capsys, "tasks", "show", *several)[0] == 0
    assert sorted(path.name for path in Path().iterdir()) == ["o-1.png", "o-2.png", "o-3.png", "o-4.png", "one.png"]
    for wrong in (["--sample", 120], ["--sample", 0, "--out", "one.html"]):
        assert call(monkeypatch, capsys, "tasks", "show", "category@photo", *wrong)[0] == 2


@pytest.mark.slow
def test_quiet_is_quiet_with_a_checkpoint_in_a_process_of_its_own(tmp_path, mine):
    """Libraries write bars to the standard error of a real process, of its children, too."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from fedmosaic.models.vision_weights import ASSETS

    tokens = PreTrainedTokenizerFast.from_pretrained(ASSETS / "tiny-llama")
    tokens.chat_template = None
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokens.pad_token_id,
        eos_token_id=tokens.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(mine.parent / "checkpoint")
    tokens.save_pretrained(mine.parent / "checkpoint")
    mine.write_text(f'reference = "sft"\n{SETTINGS}'.replace("tiny-llama", "checkpoint"))
    command = [sys.executable, "-m", "fedmosaic", "run", mine, "--quiet", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
