"""A federation as ``fedmosaic deploy init`` writes it, on loopback, whose programs can be killed and come again.

TLS, node keys, secrets and roster are in use; only the proxy is left out, so that nodes reach the SuperLink itself.
A program that has ended is started again, as the systemd units do it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from _federation import BIN, free_port

from fedmosaic.deployment import Plan, write_deployment

SECONDS_BEFORE_RESTART = 5.0


class Deployed:
    """The programs of one server and some nodes.

    Args:
        folder: new; all is in it.
        clients: the nodes' names, in the scenario's order.
        cache: the cache folder of all of them; on machines of their own, each would have one.
        data: the data of all nodes.
    """

    def __init__(self, folder: Path, clients: tuple[str, ...], *, cache: Path, data: Path) -> None:
        superlink, first = free_port(), _free_row(len(clients))
        plan = Plan.of(clients=clients, address=f"localhost:{free_port()}", superlink_port=superlink, node_port=first)
        self.clients = clients
        self.folders = write_deployment(plan, folder / "federation")
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.starts = 0
        for name, place in self.folders.nodes.items():
            _change(place / "node.env", f"SUPERLINK={plan.address}", f"SUPERLINK=localhost:{superlink}")
            _change(place / "node.toml", "own-tasks-only = true", "own-tasks-only = false")
            with (place / "node.toml").open("a") as file:
                file.write(f'data = "{data}"\nstate = "{self.private(name)}"\n')
        for place in (self.folders.server, *self.folders.nodes.values()):
            (place / "state").mkdir()
            (place / "state" / "cache").symlink_to(cache)
        source = str(Path(__file__).parents[1] / "src")
        self.environment = {
            **os.environ,
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
            "PYTHONPATH": source,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "FEDMOSAIC_HOME": str(cache),
            "FLWR_HOME": str(self.folders.server / "flower"),
            "OMP_NUM_THREADS": "1",
        }
        self._scripts = {
            "superlink": self.folders.server / "start-superlink.sh",
            "server-superexec": self.folders.server / "start-superexec.sh",
            **{f"{name}-supernode": place / "start-supernode.sh" for name, place in self.folders.nodes.items()},
            **{f"{name}-superexec": place / "start-superexec.sh" for name, place in self.folders.nodes.items()},
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, float] = {}

    def private(self, client: str) -> Path:
        """Return the folder of a node's private state."""
        return self.folders.nodes[client] / "state" / "private"

    @property
    def served(self) -> Path:
        """The folder of the runs on the server."""
        return self.folders.server / "state" / "runs"

    def start(self) -> None:
        """Start all programs and register the nodes."""
        self._start("superlink")
        subprocess.run(
            [self.folders.server / "register-nodes.sh"], env=self.environment, check=True, capture_output=True
        )
        self.look_after()

    def look_after(self) -> None:
        """Start again what has ended, a few seconds after it did."""
        now = time.monotonic()
        for name in self._scripts:
            process = self._running.get(name)
            if process is None:
                self._start(name)
            elif process.poll() is not None and now - self._ended.setdefault(name, now) > SECONDS_BEFORE_RESTART:
                del self._ended[name]
                self._start(name)

    def processes(self, kind: str, client: str) -> list[psutil.Process]:
        """Return the processes of a kind that are there now.

        Args:
            kind: ``superlink``, ``server-superexec``, ``serverapp``; or, of a client, ``supernode``, ``superexec``,
                ``clientapp``, ``resident``; or all of one machine: ``server``, ``node``.
            client: whose.
        """
        if kind == "server":
            return [
                each for part in ("superlink", "server-superexec", "serverapp") for each in self.processes(part, "")
            ]
        if kind == "node":
            parts = ("supernode", "superexec", "clientapp", "resident")
            return [each for part in parts for each in self.processes(part, client)]
        if kind == "resident":
            marks = ("resident_process", str(self.private(client)))
            return [each for each in psutil.process_iter() if all(mark in _command(each) for mark in marks)]
        if kind in ("serverapp", "clientapp"):
            parent = "server-superexec" if kind == "serverapp" else f"{client}-superexec"
            return [each for each in _children(self._running.get(parent)) if f"flwr-{kind}" in _command(each)]
        name = kind if kind in self._scripts else f"{client}-{kind}"
        process = self._running[name]
        return [] if process.poll() is not None else [psutil.Process(process.pid)]

    def stop(self) -> None:
        """End all."""
        kinds = ("serverapp", "clientapp", "resident")  # they may outlive what has started them
        others = [each for kind in kinds for client in self.clients for each in self.processes(kind, client)]
        for process in self._running.values():
            _signalled(process.pid, signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                _signalled(process.pid, signal.SIGKILL)
                process.wait()
        for each in others:
            _signalled(each.pid, signal.SIGKILL)

    def tails(self, count: int = 1500) -> str:
        """Return the end of what all have printed."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-count:]}" for path in sorted(self.logs.glob("*.log")))

    def _start(self, name: str) -> None:
        self.starts += 1
        with (self.logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [self._scripts[name]], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )


@contextmanager
def deployed(folder: Path, clients: tuple[str, ...], *, cache: Path, data: Path) -> Iterator[Deployed]:
    """Run a federation while the block runs; nothing of it stays."""
    running = Deployed(folder, clients, cache=cache, data=data)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def fedmosaic(*arguments: object) -> list[str]:
    """Return the command line of fedmosaic."""
    return [sys.executable, "-m", "fedmosaic", *map(str, arguments)]


def _children(process: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
    try:
        return [] if process is None else psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _signalled(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new))


def _free_row(count: int) -> int:
    """Return the first of as many ports in a row that are free."""
    while True:
        first = free_port()
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
