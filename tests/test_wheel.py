"""The wheel holds all that a run needs: installed elsewhere, it works outside the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel is installed to; built from a copy, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "--wheel-dir", folder / "dist", folder], check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def program(installed, cwd, *arguments):
    """Run the installed package; -P: nothing of the working folder is imported."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "fedmosaic", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_everything_of_the_package_is_in_the_wheel(installed):
    def files(folder):
        return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}

    assert files(installed / "fedmosaic") == files(ROOT / "src" / "fedmosaic")


@pytest.mark.slow
def test_the_installed_package_runs_outside_the_checkout(installed, tmp_path):
    found = subprocess.run(
        [sys.executable, "-P", "-c", "import fedmosaic; print(fedmosaic.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(installed)
    options = ["--rounds", "1", "--set", "training.steps=1", "--out", "out"]
    done = program(installed, tmp_path, "run", "mosaic40-small", *options)
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads((tmp_path / "out" / "results.json").read_text())["self"]["last"] < 1
    assert "<style>" in (tmp_path / "out" / "report.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.slow
def test_the_installed_package_tells_its_version(installed, tmp_path):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    shown = program(installed, tmp_path, "--version")
    assert (shown.returncode, version in shown.stdout) == (0, True), shown.stderr
