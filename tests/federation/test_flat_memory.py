"""The server's memory does not grow with the number of clients: uploads and downloads are on disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "server_memory.py"


def peak(count: int, path, mode: str) -> int:
    command = [sys.executable, str(BENCHMARK), "--one", str(count), mode, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["one-by-one", "at-once"])
def test_two_hundred_clients_take_no_more_memory_than_one_hundred(tmp_path, mode):
    few, many = peak(100, tmp_path / "few", mode), peak(200, tmp_path / "many", mode)
    # Another 100 clients upload, and are sent, 100 MB each way; in memory the server would hold several times that.
    assert many - few < 40 * 2**20
    uploads = list((tmp_path / "many" / "uploads").glob("*/*.safetensors"))
    assert len(uploads) == 400  # of the two rounds whose checkpoints are kept
    checkpoint = tmp_path / "many" / "checkpoints" / "round-0002"
    assert len(json.loads((checkpoint / "progress.json").read_text())["uploads"]) == 200
    assert not (tmp_path / "many" / "scratch").exists()
