"""``fedmosaic data``: own files are checked, and become a scenario that runs."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from tests.cli.calling import call

from fedmosaic.api.settings import scenario_of
from fedmosaic.data.benchmark import load_benchmark


@pytest.fixture
def mine(tmp_path):
    """A file of 24 records of two wards about four images."""
    for i in range(4):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    path = tmp_path / "mine.jsonl"
    records = [
        {"query": f"Is it {i}?", "response": "yes", "images": [f"{i % 4}.png"], "ward": "ab"[i % 2]} for i in range(24)
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_check_shows_what_is_understood(monkeypatch, capsys, mine):
    picture = mine.parent / "seen.png"
    status, out, _ = call(monkeypatch, capsys, "data", "check", mine, "--picture", picture)
    assert status == 0
    assert "mine: query-response in json; records: 24 train" in out
    assert "with images: 24; with options: 0" in out
    assert "->  yes" in out
    assert "not used, with the number of records that have it: ward (24)" in out
    assert "0 problems" in out
    assert Image.open(picture).width > 100
    colours = {colour for _, colour in Image.open(picture).getcolors(2**16)}
    assert (
        len({(60 * i, 0, 0) for i in range(4)} & colours) > 1
    )  # samples with their images, of the four that there are


def test_check_names_every_problem_and_fails(monkeypatch, capsys, mine):
    (mine.parent / "0.png").write_bytes(b"no image")
    with mine.open("a") as file:
        file.write('\n{"query": "q", "response": "a", "images": ["https://a.b/c.png"]}\n{"query": ')
    (mine.parent / "other.csv").write_text("x,y\n1,2\n")
    status, out, _ = call(monkeypatch, capsys, "data", "check", mine.parent)
    problems = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert status == 1
    same = next(line for line in problems if "0.png" in line)
    assert f"{mine}, record 0 (line 1) and 5 more, records 0, 4, 8, 12, 16, 20: " in same
    assert any("record 24 (line 25)" in line and "is not fetched" in line for line in problems)
    assert any("record 25 (line 26)" in line and "not valid JSON" in line for line in problems)
    assert any("other.csv, record 0 (line 2)" in line for line in problems)
    assert f"{len(problems)} problems" in out


def test_columns_are_named_for_the_files_that_have_them(monkeypatch, capsys, mine):
    rows = [f"Was ist {i}?;x{i}" for i in range(6)]
    (mine.parent / "table.csv").write_text("\n".join(["frage;antwort", *rows]))
    names = ("--column", "question=frage", "--column", "answer=antwort")
    status, out, _ = call(monkeypatch, capsys, "data", "check", mine.parent, *names)
    assert (status, "table: columns in csv; records: 6 train" in out) == (0, True)
    assert f"{mine}: has no columns 'antwort', 'frage', and is read as it is" in out


def test_tasks_of_own_data_are_listed_and_shown(monkeypatch, capsys, mine):
    status, out, _ = call(monkeypatch, capsys, "tasks", "list", "--data", mine)
    assert (status, "mine" in out, "▣" in out) == (0, True, True)
    picture = mine.parent / "sheet.png"
    assert call(monkeypatch, capsys, "tasks", "show", "mine", "--data", mine.parent, "--out", picture)[0] == 0
    assert Image.open(picture).width > 100


def test_tasks_of_a_table_with_columns_of_its_own_are_listed_and_shown(monkeypatch, capsys, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(
        "\n".join(["frage;antwort;haus", *(f"Was ist {i}?;x{i};{'nord' if i % 2 else 'ost'}" for i in range(12))])
    )
    status, _, error = call(monkeypatch, capsys, "tasks", "list", "--data", table)
    assert (status, "--column question=..." in error) == (2, True)  # its advice can be followed
    names = ("--column", "question=frage", "--column", "answer=antwort", "--column", "task=haus")
    status, out, error = call(monkeypatch, capsys, "tasks", "list", "--data", table, *names)
    assert (status, error) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if "table/" in line] == ["table/ost", "table/nord"]
    page = tmp_path / "page.html"
    assert call(monkeypatch, capsys, "tasks", "show", "table/ost", "--data", table, *names, "--out", page)[0] == 0
    shown = set(re.findall(r"\bx\d+\b", page.read_text()))
    assert shown
    assert shown <= {f"x{i}" for i in range(0, 12, 2)}


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("question", ["--column question", "NAME=COLUMN"]),
        ("question=frage", ["--column question=frage", "mosaic40", "--data"]),
    ],
)
def test_a_column_of_nothing_is_refused(monkeypatch, capsys, column, words):
    for command in (("list",), ("show", "trend@lines")):
        status, _, error = call(monkeypatch, capsys, "tasks", *command, "--column", column)
        assert (status, [word for word in words if word not in error]) == (2, [])


def test_split_by_a_column_deals_whole_tasks(monkeypatch, capsys, mine, tmp_path):
    arguments = ("data", "split", mine, "--clients", 2, "--by", "ward", "--out", tmp_path / "out")
    status, _, _ = call(monkeypatch, capsys, *arguments, "--model", "tiny-llama", "--model", "tiny-qwen2")
    assert status == 0
    scenario = scenario_of(str(tmp_path / "out" / "scenario.toml"))
    assert [(client.model, client.tasks) for client in scenario.clients] == [
        ("tiny-llama", ("mine/a",)),
        ("tiny-qwen2", ("mine/b",)),
    ]
    benchmark = load_benchmark(
        scenario.benchmark, home=tmp_path / "home", folder=Path(scenario.data), columns=scenario.columns
    )
    assert {sample.prompt[-2] for sample in benchmark.task("mine/a").train} <= set("02468")
    status, _, error = call(monkeypatch, capsys, *arguments)
    assert (status, "scenario.toml exists already" in error) == (2, True)
    wrong = ("data", "split", mine, "--clients", 2, "--by", "ward", "--out", tmp_path / "few", "--model", "tiny-lama")
    assert "--model tiny-lama" in (error := call(monkeypatch, capsys, *wrong)[2])
    assert "did you mean 'tiny-llama'?" in error
    few = ("data", "split", mine, "--clients", 3, "--by", "ward", "--out", tmp_path / "few")
    assert "'ward' has 2 value(s)" in call(monkeypatch, capsys, *few)[2]
    assert not (tmp_path / "few").exists()


@pytest.mark.parametrize("alpha", ["0", "-1", "nan", "inf"])
def test_a_division_that_makes_no_sense_writes_nothing(monkeypatch, capsys, mine, tmp_path, alpha):
    arguments = ("data", "split", mine, "--clients", 2, "--by", "dirichlet", "--out", tmp_path / "out")
    status, _, error = call(monkeypatch, capsys, *arguments, f"--alpha={alpha}")
    assert (status, f"alpha = {float(alpha)}: input should be" in error) == (2, True)
    assert not (tmp_path / "out").exists()
    assert call(monkeypatch, capsys, *arguments)[0] == 0


def test_a_model_of_ones_own_is_found_from_any_folder(monkeypatch, capsys, mine, tmp_path):
    (tmp_path / "models" / "my-model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "models")
    for number, typed in enumerate(("my-model", "./my-model")):
        out = tmp_path / f"out{number}"
        split = ("data", "split", mine, "--clients", 2, "--by", "ward", "--model", typed, "--out", out)
        assert call(monkeypatch, capsys, *split)[0] == 0
        models = {client.model for client in scenario_of(str(out / "scenario.toml")).clients}
        assert models == {str(tmp_path / "models" / "my-model")}


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_what_split_wrote_runs(monkeypatch, capsys, mine, tmp_path):
    out = tmp_path / "out"
    arguments = ("--clients", 3, "--by", "dirichlet", "--out", out, "--model", "tiny-llama-small")
    assert call(monkeypatch, capsys, "data", "split", mine, *arguments)[0] == 0
    run = ("run", out / "scenario.toml", "--rounds", 1, "--set", "training.steps=1", "--out", tmp_path / "run")
    status, _, error = call(monkeypatch, capsys, *run, "--quiet")
    assert status == 0, error
    assert json.loads((tmp_path / "run" / "results.json").read_text())["self"]["last"] >= 0
