"""The Dockerfiles, as far as they can be checked without a daemon, which this project does not have."""

import fnmatch
import re
import subprocess
import tomllib

import pytest
from tests.docs.pages import ROOT

FILES = ("Dockerfile", "Dockerfile.cuda")


def instructions(name):
    """(instruction, its text) of each, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def of(name, kind):
    return [text for each, text in instructions(name) if each == kind]


def sent(path):
    """Whether .dockerignore lets a file through: the last line that fits decides."""
    taken, parts = True, path.split("/")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        below = [pattern.removeprefix("**/")] if pattern.startswith("**/") else []
        if fnmatch.fnmatch(parts[0], pattern) or any(fnmatch.fnmatch(part, each) for each in below for part in parts):
            taken = line.startswith("!")
    return taken


@pytest.mark.parametrize("name", FILES)
def test_everything_that_is_copied_is_there_and_nothing_else_is_sent(name):
    copied = [word for text in of(name, "COPY") if "--from" not in text for word in text.split()[:-1]]
    assert sorted(copied) == ["LICENSE", "README.md", "constraints.txt", "pyproject.toml", "src"]
    assert all((ROOT / each).exists() and sent(each) for each in copied)
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {each.split("/")[0] for each in files if sent(each)} == set(copied)
    assert not sent("src/fedmosaic/__pycache__/errors.cpython-312.pyc")
    assert not sent(".venv/bin/python")


@pytest.mark.parametrize("name", FILES)
def test_versions_are_pinned_and_the_user_has_no_rights(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = {re.fullmatch(r"python:(3\.\d+)-slim", text.split(" AS ")[0])[1] for text in of(name, "FROM")}
    assert len(python) == 1
    assert f"Programming Language :: Python :: {python.pop()}" in project["classifiers"]
    for text in of(name, "RUN"):
        for command in re.findall(r"pip install .*", text):
            assert "--constraint constraints.txt" in command
    assert f"torch=={pin('torch')}" in "".join(of(name, "RUN"))
    (user,) = of(name, "USER")
    assert f"--uid {user} " in "".join(of(name, "RUN"))
    assert of(name, "ENTRYPOINT") == ['["fedmosaic"]']
    assert "fedmosaic" in project["scripts"]


def pin(name):
    return re.search(rf"^{name}==([^\s;]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


def test_both_are_alike_but_for_the_device():
    def plain(name):
        return [each for each in instructions(name) if each[0] not in ("RUN", "ENV")]

    assert plain("Dockerfile") == plain("Dockerfile.cuda")
    assert "torch.version.cuda" in "".join(of("Dockerfile.cuda", "RUN"))


def test_makefile_and_guides_name_the_pinned_torch():
    for page in ("Makefile", "docs/start.md"):
        assert f"torch=={pin('torch')}" in (ROOT / page).read_text()
