"""What the system says of processes."""

import os
import subprocess
import sys

import numpy as np

from fedmosaic.processes import is_running, peak_memory

ASK = "from fedmosaic.processes import peak_memory; print(peak_memory())"


def test_a_process_s_peak_is_its_own_and_not_that_of_the_one_that_started_it():
    held = np.ones(40 * 2**20)  # 320 MB
    told = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    own = peak_memory()
    assert own is not None
    assert own > held.nbytes
    assert 2**20 < int(told.stdout) < held.nbytes


def test_a_process_that_has_ended_is_not_running():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_running(os.getpid())
    assert not is_running(ended.pid)
