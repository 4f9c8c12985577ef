"""CPU seconds of the command line where nothing is computed: help, the version, wrong usage. Median of five.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

CALLS = (
    "--help",
    "--version",
    "run --help",
    "compare --help",
    "tasks show --help",
    "settings show training.steps",
    "nosuch",
    "run --nosuch",
    "run --seed x",
    "run demoo",
    "run --method fedmosiac",
    "run --set trainin.steps=2",
)


def seconds(words: list[str]) -> float:
    """Return the user and system time of one call."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "fedmosaic", *words], capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    for call in CALLS:
        print(f"{statistics.median(seconds(call.split()) for _ in range(5)):5.2f} s  fedmosaic {call}")
