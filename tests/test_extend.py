"""docs/extend.md, done by the letter: one file makes a dataset, one a gate."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedmosaic.registry import REGISTRIES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extend.md").read_text()
FILES = dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
USE = """
import sys
from pathlib import Path
from types import SimpleNamespace
import torch
from fedmosaic.adapters.gate import gated_pair, make_gate
from fedmosaic.config import load_scenario, resolve
from fedmosaic.data.benchmark import load_benchmark

settings = resolve(load_scenario("shades.toml"), overrides=["adapter.gate=bounded"])
benchmark = load_benchmark(settings.scenario.benchmark, home=Path("home"))
assert settings.scenario.task_names == benchmark.task_names()
for name in benchmark.task_names():
    task = benchmark.task(name)
    assert {sample.answer for split in (task.train, task.validation, task.test) for sample in split} == {name}
    assert benchmark.images.load(task.test[0].images[0]).size == (64, 64)
gate = make_gate(settings.adapter.gate, 8, SimpleNamespace(), torch.device("cpu"), torch.float32)
assert gated_pair("bounded", None, ["a", "b"]) == ("a", "b")
with torch.no_grad():
    gate.c.fill_(9.0)
assert torch.sigmoid(gate(torch.zeros(3, 8))) < 0.74
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the sources, of links to them, with the page's files added."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src", root / "src", copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        assert not (root / name).exists()
        (root / name).write_text(text)
    return root


def python(checkout, *words):
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    subprocess.run([sys.executable, *words], check=True, cwd=checkout, env=environment)


@pytest.mark.slow
def test_a_dataset_and_a_gate_take_one_file_each(checkout):
    assert [Path(name).parts[0] for name in FILES] == ["src", "shades.toml", "src"]
    python(checkout, "-c", USE)


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for line in PAGE.splitlines() if line.startswith("fedmosaic run")])
def test_the_commands_of_the_page_work(checkout, command):
    words = [*command.split()[1:], "--set", "training.steps=1", "--quiet"]
    python(checkout, "-m", "fedmosaic", *words)
    assert (checkout / words[words.index("--out") + 1] / "results.json").is_file()


def test_the_page_tells_where_everything_goes():
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| ") and "`fedmosaic." in line]
    places = {row[3].strip(" `"): row[1].strip(" `").rstrip("/").replace("/", ".") for row in rows}
    assert places == {
        f"fedmosaic.{registry.kind}": registry.package.removeprefix("fedmosaic.") for registry in REGISTRIES
    }
