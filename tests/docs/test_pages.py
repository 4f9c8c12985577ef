"""Every fenced block of the documentation: commands and code are run where they stand, or read by their parsers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import typer
from tests.docs.commands import calls, check, parameters
from tests.docs.pages import DOCS, ROOT, TESTED_BY, blocks, pages

from fedmosaic.cli import app
from fedmosaic.config import load_scenario
from fedmosaic.config.describe import described
from fedmosaic.config.settings import RunDefaults
from fedmosaic.registry import METHODS

BLOCKS = [block for page in pages() for block in blocks(page)]
COMMANDS = ("bash", "python")
LANGUAGES = (*COMMANDS, "toml", "json", "text")
RUN = sorted({each.page for each in BLOCKS if each.language in COMMANDS and not each.checked} - set(TESTED_BY))
CHECKED = [each for each in BLOCKS if each.checked]


@pytest.mark.parametrize("page", pages())
def test_each_block_says_what_it_is(page):
    """Text is what nobody types; all else is run or checked."""
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block}: write the language behind the fence, one of {LANGUAGES}"
        if block.language == "text" and not block.checked:
            typed = [line for line in block.text.splitlines() if re.match(r"(\$ )?(fedmosaic|python|pip) ", line)]
            assert not typed, f"{block}: has commands, so it is bash"
    indented = re.findall(r"^    (?:fedmosaic|python|pip) .*", (DOCS / page).read_text(), flags=re.MULTILINE)
    assert not indented, "commands stand in a fence that says what they are"


@pytest.mark.parametrize("page", TESTED_BY)
def test_pages_with_a_test_of_their_own_have_it(page):
    assert f'"{page}"' in (ROOT / TESTED_BY[page]).read_text()
    assert {each.language for each in blocks(page) if not each.checked} <= {"bash", "toml", "python"}


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language in ("toml", "json")], ids=str)
def test_files_are_what_they_say(block, tmp_path):
    if block.language == "json":
        json.loads(block.text)
        return
    found = tomllib.loads(block.text)
    if "clients" in found and "benchmark" in found and block.page not in TESTED_BY:
        (tmp_path / "scenario.toml").write_text(block.text)
        assert load_scenario(str(tmp_path / "scenario.toml")).clients


@pytest.mark.slow
@pytest.mark.parametrize("block", CHECKED, ids=str)
def test_what_is_not_run_is_typed_correctly(block, monkeypatch):
    """The reason stands above the block."""
    assert len(block.checked) > 5
    if block.language == "python":
        compile(block.text, str(block), "exec")
    if block.language == "bash":
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("FEDMOSAIC_DATA", str(DOCS))
        for words in calls(block.text):
            check(words)


@pytest.fixture(scope="module")
def first(tmp_path_factory, home):
    """A folder with ``runs/first``, which guides go on from."""
    folder = tmp_path_factory.mktemp("first")
    short = ["--rounds", "1", "--set", "training.steps=1", "--quiet", "--out", str(folder / "runs" / "first")]
    command = [sys.executable, "-m", "fedmosaic", "run", "mosaic40-small", "--method", "fedmosaic-proxy", *short]
    subprocess.run(command, check=True)
    return folder / "runs"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A search path on which ``fedmosaic`` and ``python`` are those of this test."""
    folder = tmp_path_factory.mktemp("bin")
    for name, words in {"python": "", "fedmosaic": " -m fedmosaic"}.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable}{words} "$@"\n')
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_a_page_is_run_from_top_to_bottom(page, tmp_path, path, first):
    """In a process and a folder of its own, with the folders that guides go on from."""
    text = "".join(each.text for each in blocks(page) if not each.checked)
    if "runs/first" in text and not re.search(r"run (?!--resume).*--out runs/first|out=\"runs/first\"", text):
        shutil.copytree(first, tmp_path / "runs")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    program = [sys.executable, str(Path(__file__).with_name("run_page.py")), page]
    said = tmp_path / "said.txt"
    with said.open("w") as file:  # no pipe: a server that a page leaves behind would keep it open
        running = subprocess.Popen(
            program, cwd=tmp_path, env=os.environ | {"PATH": path}, stdout=file, stderr=file, start_new_session=True
        )
        try:
            status = running.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    assert status == 0, said.read_text()


def settings_keys():
    general = {each.key for each in described(RunDefaults)}
    return general | {each.key for name in METHODS for each in described(METHODS.load(name).Settings, "method.")}


def test_every_setting_that_a_page_names_is_one():
    """``--set KEY=``, in sentences and tables, too; what a page's own example brings is not among the settings."""
    known = settings_keys()
    wrong = [
        f"{page}: {key}"
        for page in pages()
        if page not in TESTED_BY
        for key in re.findall(r"--set ([a-z_]+(?:\.[a-z_]+)*)=", (DOCS / page).read_text())
        if key not in known and not key.startswith("scenario.")
    ]
    assert wrong == []


def test_every_command_that_a_page_names_in_a_sentence_is_one():
    """Its verb is there, and the verb has the options."""
    whole = typer.main.get_command(app)
    for page in pages():
        for text in re.findall(r"`fedmosaic ([a-z]+(?: [^`]*)?)`", (DOCS / page).read_text()):
            words = text.replace("...", "").split()
            options = {each.partition("=")[0] for each in words if each.startswith("--")}
            verb = [each for each in words[:2] if re.fullmatch(r"[a-z]+", each)]
            assert options <= _options(whole, verb), f"{page}: fedmosaic {text}"


def _options(command, verb):
    for word in verb:
        if hasattr(command, "commands"):
            command = command.commands[word]
    return {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {
        "--help",
        "--version",
    }


@pytest.mark.parametrize(
    "words",
    [
        ["fedmosaic", "run", "mosaic40", "--round", "1"],
        ["fedmosaic", "run", "mosaic40", "--set", "training.step=1"],
        ["fedmosaic", "compare", "mosaic40", "--methods", "fedmosaic:relevanc=uniform"],
        ["fedmosaic", "trian"],
        ["pip", "install", "fedmosaic[tensorbord]"],
        ["python", "benchmarks/sketch_error.py", "--outt", "x"],
    ],
    ids=" ".join,
)
def test_a_mistyped_command_is_seen(words, capsys):
    with pytest.raises((Exception, SystemExit)):
        check(words)


def test_commands_are_found_in_scripts():
    script = "# a\nA=1 fedmosaic run x --set 'a=b c' \\\n  --out y  # why\n"
    script += "for run in r/*; do fedmosaic evaluate $run; done; cd x\n"
    assert list(calls(script)) == [
        ["fedmosaic", "run", "x", "--set", "a=b c", "--out", "y"],
        ["for", "run", "in", "r/*"],
        ["fedmosaic", "evaluate", "$run"],
        ["done"],
        ["cd", "x"],
    ]
    assert parameters(["run", "x", "--rounds", "3"])[1]["rounds"] == 3
