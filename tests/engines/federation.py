"""A federation of real processes on loopback: SuperLink, SuperNodes, and a SuperExec for each of them."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent
QUICK = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1"}


class Federation:
    """What runs, and where."""

    def __init__(self, folder: Path, home: Path):
        self.folder = folder
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen] = {}
        source = str(Path(__file__).parents[2] / "src")
        self.environment = {
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
        link = ("--insecure", "--isolation", "process", "--host", "127.0.0.1", "--port", str(self.port))
        self.start("superlink", "flower-superlink", *link, own="server")
        wait_for(self.port, self.processes["superlink"])
        address = f"127.0.0.1:{self.port}"
        self.start("server-exec", "flower-superexec", "--insecure", "--runtime-api-address", address, own="server")

    def start_node(self, position: int, **config: object) -> None:
        name, port = f"node-{position}", free_port()
        table = {"partition-id": position, "state": str(self.folder / f"state-{position}"), **config}
        text = " ".join(
            f"{key}={str(value).lower() if isinstance(value, bool) else toml(value)}" for key, value in table.items()
        )
        node = ("--insecure", "--superlink", f"127.0.0.1:{self.port}", "--isolation", "process", "--port", str(port))
        self.start(name, "flower-supernode", *node, "--node-config", text, own=name)
        wait_for(port, self.processes[name])
        address = f"127.0.0.1:{port}"
        self.start(f"{name}-exec", "flower-superexec", "--insecure", "--runtime-api-address", address, own=name)

    def descendants(self) -> list[psutil.Process]:
        return [
            child for each in self.processes.values() for child in psutil.Process(each.pid).children(recursive=True)
        ]

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.rglob("*.log")))


def toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the process has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


@contextmanager
def federation(folder: Path, home: Path, nodes: int, **config: object):
    """Run server and nodes while the block runs; nothing of them stays."""
    with ExitStack() as stack:
        running = Federation(folder, home)
        stack.callback(running.stop)
        running.start_server()
        for position in range(nodes):
            running.start_node(position, **config)
        yield running
