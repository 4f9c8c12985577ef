"""A run of 50 clients: the division of the small benchmark, one round, in a process whose memory is bounded."""

import json
import subprocess
import sys

import pytest

RUN = """
import sys
from pathlib import Path
from fedmosaic.config import load_scenario, resolve
from fedmosaic.federation import RunFolder, engines
from fedmosaic.processes import peak_memory

overrides = ["training.steps=1", "training.batch_size=4", "participation.fraction=1.0"]
few = {"samples_per_task": 1, "final_samples_per_task": 4}
settings = resolve(load_scenario("mosaic40-small-dirichlet-50"), overrides=overrides, rounds=1, evaluation=few)
engines.run(settings, RunFolder.create(Path(sys.argv[1]), settings))
print(peak_memory())
"""


@pytest.mark.slow
def test_fifty_clients_of_the_dirichlet_division_train_and_are_measured_in_little_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert len(results["self"]["per_client"]) == 50
    assert all(0 <= score <= 1 for score in results["self"]["per_client"])
    # 50 clients share three base models and one set of features: this is what one client needs, and a little more.
    assert int(done.stdout.split()[-1]) < 3 * 2**30
