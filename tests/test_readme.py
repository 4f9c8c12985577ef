"""The README's commands, run as a reader would run them."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def commands() -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]


@pytest.mark.slow
def test_every_command_of_the_readme_works(tmp_path, home):
    """In a folder that has what a clone has, and nothing in runs/."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".venv", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert commands()[0] == "make demo"
    said = re.search(r"answers `(\w+)`", (ROOT / "README.md").read_text())[1]
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=os.environ.copy(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if " ask " in command:
            assert done.stdout.strip() == said
    (demo,) = (tmp_path / "runs").glob("demo-*")
    for folder in (demo, demo / "reference", tmp_path / "runs" / "first"):
        results = json.loads((folder / "results.json").read_text())
        assert 0 < results["self"]["last"] <= 1
        assert (folder / "report.html").stat().st_size > 10_000
    assert (tmp_path / "odd-one-out.png").stat().st_size > 10_000
