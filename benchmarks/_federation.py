"""A federation of real processes on loopback: SuperLink, SuperNodes, and a SuperExec for each of them.

Insecure, as no other machine can reach it. The tests use it, too.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
QUICK = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1"}


class Federation:
    """What runs, and where."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.port = self.fleet_port = free_port()
        self.counter: Any = None
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        source = str(Path(__file__).parents[1] / "src")
        self.environment = {
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",  # as in the scripts of fedmosaic deploy
            **os.environ,
            **QUICK,
            "PYTHONPATH": source,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "FEDMOSAIC_HOME": str(home),
            "FEDMOSAIC_RUNS": str(folder / "served"),
            "OMP_NUM_THREADS": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_HOME": str(folder / "flower"),
        }
        (folder / "flower").mkdir(parents=True)
        connection = f'[superlink.here]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        (folder / "flower" / "config.toml").write_text(connection)

    def start(self, name: str, *command: str, own: str = "") -> None:
        """Start a process; ``own`` gives it a Flower home of its own, as on a machine of its own."""
        environment = {**self.environment, **({"FLWR_HOME": str(self.folder / own)} if own else {})}
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [BIN / command[0], *command[1:]],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def start_server(self) -> None:
        """Start the SuperLink and its SuperExec."""
        link = ("--insecure", "--isolation", "process", "--host", "127.0.0.1", "--port", str(self.port))
        self.start("superlink", "flower-superlink", *link, own="server")
        wait_for(self.port, self.processes["superlink"])
        address = f"127.0.0.1:{self.port}"
        self.start("server-exec", "flower-superexec", "--insecure", "--runtime-api-address", address, own="server")

    def start_node(self, position: int, **config: object) -> None:
        """Start a SuperNode with this configuration, and its SuperExec."""
        name, port = f"node-{position}", free_port()
        table = {"partition-id": position, "state": str(self.folder / f"state-{position}"), **config}
        text = " ".join(
            f"{key}={str(value).lower() if isinstance(value, bool) else toml(value)}" for key, value in table.items()
        )
        node = (
            "--insecure",
            "--superlink",
            f"127.0.0.1:{self.fleet_port}",
            "--isolation",
            "process",
            "--port",
            str(port),
        )
        program = (sys.executable, "-m", "fedmosaic.federation.supernode")
        self.start(name, *program, *node, "--node-config", text, own=name)
        wait_for(port, self.processes[name])
        address = f"127.0.0.1:{port}"
        self.start(f"{name}-exec", "flower-superexec", "--insecure", "--runtime-api-address", address, own=name)

    def stop(self) -> None:
        """End all."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        """Return the end of what all have printed."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.rglob("*.log")))


def toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the process has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


@contextmanager
def federation(
    folder: Path,
    home: Path,
    nodes: int,
    *,
    prepare: Callable[[Federation], object] = lambda _: None,
    **config: object,
) -> Iterator[Federation]:
    """Run server and nodes while the block runs; nothing of them stays."""
    with ExitStack() as stack:
        running = Federation(folder, home)
        stack.callback(running.stop)
        running.start_server()
        prepare(running)
        for position in range(nodes):
            running.start_node(position, **config)
        yield running
