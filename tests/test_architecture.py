"""The house: imports point downwards only, files stay small, nothing unpickles."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_imports_point_downwards_only():
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_file_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= 320


def test_nothing_unpickles():
    allowed = {"vision_weights.py"}  # reads the package's weights with weights_only=True, after a checksum
    for path in SOURCES:
        if path.name not in allowed:
            assert not re.search(r"\b(pickle|torch\.load)\b|allow_pickle=True", path.read_text()), path
