"""Runs on a device that is not the CPU, and on both at once: nothing is left behind on the wrong one."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_runs_compute_on_another_device_and_on_two(tmp_path):
    """The stand-in refuses operations between the two; what is asserted stands in on_card.py."""
    file = Path(__file__).with_name("on_card.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "runs", file],
        cwd=file.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "3 passed" in done.stdout
