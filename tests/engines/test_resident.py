"""The resident process of a node, as a real process: secret, stale files, kills, ends."""

import json
import os
import signal
import stat
import subprocess
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

import psutil
import pytest

from fedmosaic.errors import ResidentError
from fedmosaic.federation import resident
from fedmosaic.federation.node_settings import NodeSettings
from fedmosaic.federation.resident import Address, Resident

pytestmark = pytest.mark.slow

ME = {"run": 1, "node": 2, "task": 3}


def ask(node):
    """Ask what no client can answer: the process must be there to say so."""
    with pytest.raises(ResidentError, match=r"failed with DecodeError; .*resident-\d\.log says more$"):
        Resident(node).ask(ME, b"\xff", b"\xff")


def test_one_process_answers_whatever_happens_to_it(tmp_path, monkeypatch):
    node = NodeSettings.of({"partition-id": 0, "state": str(tmp_path), "resident": True})
    file = tmp_path / "resident-0.json"
    keeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(os, "getppid", lambda: keeper.pid)  # what starts the node's ClientApps
    file.write_text(json.dumps({"socket": str(tmp_path / "gone"), "secret": "00", "pid": 1, "version": "0"}))

    ask(node)  # a file of an older version: a process is started
    first = Address.read(file)
    ask(node)
    assert Address.read(file) == first  # the same process again
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "DecodeError" in (tmp_path / "resident-0.log").read_text()

    with pytest.raises(AuthenticationError):  # who does not know the secret is refused, and nobody is kept from asking
        Client(first.socket, authkey=b"guessed")
    with Client(first.socket, authkey=bytes.fromhex(first.secret)):
        pass  # hangs up without a word
    ask(node)
    assert Address.read(file) == first

    os.kill(first.pid, signal.SIGKILL)
    ask(node)  # nobody is behind the file: another process is started
    second = Address.read(file)
    assert second.pid != first.pid
    assert second.secret != first.secret

    keeper.kill()
    keeper.wait()
    psutil.Process(second.pid).wait(60)
    assert not file.exists()


def test_idle_processes_end(tmp_path):
    node = NodeSettings.of({"partition-id": 1, "state": str(tmp_path), "resident": True, "idle": 0.01})
    ask(node)
    for process in psutil.process_iter(["cmdline"]):
        if str(tmp_path) in " ".join(process.info["cmdline"] or ()):
            process.wait(60)
    assert not (tmp_path / "resident-1.json").exists()


def test_one_that_is_killed_while_it_starts_is_followed_by_another(tmp_path, monkeypatch):
    node = NodeSettings.of({"partition-id": 2, "state": str(tmp_path), "resident": True, "idle": 0.01})
    start, started = subprocess.Popen, []

    def starting(*arguments, **options):
        started.append(start(*arguments, **options))
        if len(started) == 1:
            started[0].kill()
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", starting)
    ask(node)
    assert len(started) == 2
    started[1].wait(60)


def test_a_process_that_does_not_start_is_named_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(resident.sys, "executable", "/bin/false")
    node = NodeSettings.of({"partition-id": 2, "state": str(tmp_path), "resident": True})
    with pytest.raises(ResidentError, match=r"does not start; .*resident-2\.log says more"):
        Resident(node).ask(ME, b"", b"")
