"""The same run on three engines, with Flower's real processes: the same results, bit for bit."""

import os
import signal
import subprocess
import sys
import tomllib

import psutil
import pytest
from benchmarks._federation import BIN, federation
from tests.deployment.processes import until
from tests.engines.scenario import outcome, written

from fedmosaic.config import load_scenario, resolve
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.resident import Address
from fedmosaic.federation.submission import Submission

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    return written(tmp_path_factory.mktemp("scenario"))


def run_here(scenario, path, engine, callbacks=(), **changes):
    settings = resolve(load_scenario(str(scenario)), engine=engine, **changes)
    folder = RunFolder.create(path, settings)
    engines.run(settings, folder, callbacks=callbacks)
    return path


@pytest.fixture(scope="module")
def expected(scenario, tmp_path_factory):
    """What the run gives in this process."""
    return outcome(run_here(scenario, tmp_path_factory.mktemp("here") / "run", "in-process"))


class Witness(Callback):
    """Counts who trains, and kills all worker processes after the first round."""

    def __init__(self):
        self.trained, self.killed = [], []

    def on_trained(self, record):
        self.trained.append((record.round, record.client))

    def on_round_end(self, record):
        if record.round == 1:
            self.killed = [each for each in workers() if "ClientAppActor" in each.name() + " ".join(each.cmdline())]
            for each in self.killed:
                each.kill()


def workers():
    return psutil.Process().children(recursive=True)


def test_a_simulation_gives_the_same_although_its_workers_are_killed(scenario, expected, tmp_path):
    before, path, witness = set(workers()), os.environ.get("PYTHONPATH"), Witness()
    run = run_here(scenario, tmp_path / "run", "simulation", [witness])
    assert witness.killed
    assert sorted(witness.trained) == [(round_, client) for round_ in (1, 2) for client in range(3)]
    assert outcome(run) == expected
    assert not [each for each in set(workers()) - before if each.status() != psutil.STATUS_ZOMBIE]
    assert os.environ.get("PYTHONPATH") == path


@pytest.fixture(scope="module")
def running(home, tmp_path_factory):
    with federation(tmp_path_factory.mktemp("federation"), home, 3, resident=True) as found:
        yield found
        residents = [each for each in psutil.process_iter(["cmdline"]) if is_resident(each, found)]
        assert len(residents) == 3  # one for each node, whatever number of messages and runs
    for each in residents:
        each.wait(60)  # gone with the SuperExec that starts the node's ClientApps


def is_resident(process, federation):
    command = " ".join(process.info["cmdline"] or ())
    return "resident_process" in command and str(federation.folder) in command


def test_a_deployment_gives_the_same(scenario, expected, running, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "fedmosaic", "run", scenario, "--engine", "deployment", "--out", run]
    done = submitted([*command, "--superlink", "here"], running)
    assert "round 2/2 done" in done.stdout
    assert outcome(run) == expected
    again = submitted([*command[:4], "--resume", "--out", run], running)
    assert "is finished" in again.stdout
    for position in range(3):  # a client's state stays on its own machine
        (state,) = (running.folder / f"state-{position}").glob("*/client-*")
        assert state.name == f"client-{position:03d}"
    assert not list(run.rglob("*.safetensors"))


def test_it_gives_the_same_where_who_submitted_it_and_a_resident_process_are_killed(
    scenario, expected, running, tmp_path
):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "fedmosaic", "run", scenario, "--engine", "deployment", "--out", run]
    submitter = subprocess.Popen(
        list(map(str, [*command, "--superlink", "here"])), env=running.environment, stdout=subprocess.DEVNULL
    )

    def trained():
        submission = Submission.of(RunFolder(run)) if run.is_dir() else None
        log = running.folder / "served" / submission.key / "events.jsonl" if submission else run
        return log.is_file() and '"trained"' in log.read_text()

    until(trained, "a client that has trained", running.folder / "superlink.log", seconds=600)
    resident = Address.read(running.folder / "state-0" / "resident-0.json")
    for pid in (resident.pid, submitter.pid):
        os.kill(pid, signal.SIGKILL)
    assert submitter.wait() == -signal.SIGKILL
    submitted([*command[:4], "--resume", "--out", run], running)
    assert outcome(run) == expected
    after = Address.read(running.folder / "state-0" / "resident-0.json")
    assert after.pid != resident.pid


def test_flower_runs_the_repository_as_an_app(scenario, running, tmp_path):
    settings = resolve(load_scenario(str(scenario)), engine="deployment", rounds=1)
    config = tmp_path / "config.toml"
    config.write_text(f"settings = '''\n{settings.to_toml()}'''\nrun = \"by-flower\"\n")
    root = os.fspath(__file__).rpartition("/tests/")[0]
    submitted([BIN / "flwr", "run", root, "here", "--run-config", config, "--stream"], running)
    served = running.folder / "served" / "by-flower"
    assert tomllib.loads((served / "settings.toml").read_text())["engine"] == "deployment"
    alone = run_here(scenario, tmp_path / "alone", "in-process", rounds=1)
    assert outcome(served) == outcome(alone)


def submitted(command, running):
    done = subprocess.run(
        list(map(str, command)),
        env=running.environment,
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + running.logs()
    return done


def test_a_clients_error_names_its_kind_and_nothing_of_its_machine(scenario, running, tmp_path):
    settings = resolve(
        load_scenario(str(scenario)), engine="deployment", overrides=["scenario.probe=/home/someone/model"]
    )
    path = tmp_path / "broken.toml"
    path.write_text(settings.to_toml())
    config = tmp_path / "config.toml"
    config.write_text(f"settings = '''\n{settings.to_toml()}'''\nrun = \"broken\"\n")  # whose servers would wait 600 s
    root = os.fspath(__file__).rpartition("/tests/")[0]
    done = submitted([BIN / "flwr", "run", root, "here", "--run-config", config, "--stream"], running)
    assert "SettingsError: the run's settings do not fit it" in " ".join(done.stdout.split())
    assert "someone" not in done.stdout
    assert (
        "takes folders from its own configuration only" in (running.folder / "state-0" / "resident-0.log").read_text()
    )
