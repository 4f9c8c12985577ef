"""A client that joins late and one that leaves for good, with Flower's real processes."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from benchmarks._federation import BIN, federation
from tests.deployment.processes import until
from tests.engines.scenario import written

from fedmosaic.config import load_scenario, resolve
from fedmosaic.federation import RunFolder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def holds(path, text):
    return lambda: path.is_file() and text in path.read_text()


def test_a_run_goes_on_without_a_node_that_is_gone_and_with_one_that_comes(home, tmp_path):
    """Client 1's machine dies after round 1, and that of client 2 is there from then on."""
    settings = resolve(
        load_scenario(str(written(tmp_path))),
        engine="deployment",
        rounds=3,
        overrides=["participation.min_clients=1"],
    )
    config = tmp_path / "config.toml"
    config.write_text(f"settings = '''\n{settings.to_toml()}'''\nrun = \"comes-and-goes\"\nwait = 1\n")
    with federation(tmp_path / "federation", home, 2, resident=True) as running:
        for name in ("node-0", "node-1"):
            until(holds(running.folder / f"{name}.log", "SuperNode ID"), name, running.folder / f"{name}.log")
        run = RunFolder(running.folder / "served" / "comes-and-goes")
        log = tmp_path / "run.log"
        with log.open("wb") as output:
            submitted = subprocess.Popen(
                [BIN / "flwr", "run", ROOT, "here", "--run-config", config, "--stream"],
                env=running.environment,
                cwd=running.folder,
                stdout=output,
                stderr=output,
            )
        until(holds(run.event_log, '"checkpoint"'), "the first round", log, seconds=600)
        for name in ("node-1", "node-1-exec"):
            os.kill(running.processes[name].pid, signal.SIGKILL)
        running.start_node(2, resident=True)
        assert submitted.wait(900) == 0, log.read_text() + running.logs()
    results = run.results()
    assert results is not None, log.read_text()
    missing = {client: sorted({each.round for each in results.missing if each.client == client}) for client in range(3)}
    assert missing == {0: [], 1: [2, 3], 2: [0, 1, 2]}
    assert {each.why for each in results.missing if each.client == 2} == {"not there"}
    assert all("Node Unavailable" in each.why for each in results.missing if each.client == 1)
    assert [score is None for score in results.self_.per_client] == [False, True, False]
