"""docs/add-a-method.md, done by the letter: an outside package that fedmosaic finds by its entry point."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.methods.lab import Lab, distance

from fedmosaic.methods.registry import method_classes
from fedmosaic.methods.uploads import Uploads

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-method.md").read_text()
FILES = dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the page's package is installed into, by pip and without any network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site-packages")
    for name, text in FILES.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *offline, str(source / "mrmtl")], check=True)
    return target


@pytest.fixture
def found(installed, monkeypatch):
    """The same, on the path of this process."""
    monkeypatch.syspath_prepend(str(installed))
    return installed


def test_it_takes_at_most_sixty_lines():
    assert set(FILES) == {"mrmtl/pyproject.toml", "mrmtl/mrmtl.py"}
    assert sum(len(text.splitlines()) for text in FILES.values()) <= 60


@pytest.mark.slow
def test_the_package_is_found_and_works_as_it_says(found):
    assert method_classes()["mrmtl"].__module__ == "mrmtl"
    moved = {}
    for lam in (0.0, 100.0):
        lab = Lab("mrmtl", {"lam": lam}, steps=10, max_grad_norm=0.0)
        clients = [lab.client(number) for number in range(2)]
        start = clients[0].snapshot("own")
        uploads = Uploads([lab.train(client) for client in clients])
        moved[lam] = distance(uploads[0].tensors, start)
        downloads = lab.method.aggregate(uploads, None).downloads
        for name in start:
            torch.testing.assert_close(downloads[0][name], uploads.stack(name).mean(0))
    assert 0 < moved[100.0] < 0.5 * moved[0.0]


@pytest.mark.slow
def test_the_command_of_the_page_works(installed, tmp_path):
    (command,) = [line for line in PAGE.splitlines() if line.startswith("fedmosaic run")]
    words = [*command.split()[1:], "--set", "training.steps=1", "--quiet"]
    paths = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-m", "fedmosaic", *words], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}
    )
    assert (tmp_path / "runs" / "mrmtl" / "results.json").is_file()
