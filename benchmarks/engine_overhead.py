"""What each engine adds to the work inside clients: start, seconds a round, and bytes on the wire. Three clients.

python benchmarks/engine_overhead.py --out results/engine-overhead.json

Start is what passes before the first round: processes, models, the base models' scores. A round is what passes between
its beginning and the next one's (training, scores, checkpoint); from it the work inside clients is taken: all of it
in-process, where clients take turns, and the slowest client's where they work at the same time. Bytes are counted
between the nodes and the SuperLink, both ways, with all that Flower says besides; the payload is what clients and
server say they have sent. Wall time: the load of the machine is written down beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from socket import SHUT_WR, create_connection, create_server, socket
from statistics import median

from _federation import Federation, federation

from fedmosaic.events import Trained
from fedmosaic.federation import RunFolder
from fedmosaic.federation.callbacks import RoundStart

SCENARIO = """
name = "overhead"
probe = "tiny-llama"

[settings]
rounds = {rounds}

[settings.training]
steps = 1
batch_size = 4

[settings.adapter]
rank = {rank}
alignment = "none"

[settings.evaluation]
samples_per_task = 2
milestones = 1
{clients}
"""
CLIENT = """
[[clients]]
id = {position}
model = "tiny-llama"
tasks = ["trend@lines"]
"""
CLIENTS = 3


class Counter:
    """Passes bytes on to a port and counts them."""

    def __init__(self, port: int) -> None:
        self.bytes = 0
        self._target = port
        self._listener = create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            incoming, _ = self._listener.accept()
            outgoing = create_connection(("127.0.0.1", self._target))
            for source, sink in ((incoming, outgoing), (outgoing, incoming)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket, sink: socket) -> None:
        try:
            while data := source.recv(1 << 16):
                self.bytes += len(data)
                sink.sendall(data)
            sink.shutdown(SHUT_WR)
        except OSError:
            pass


def measured(path: Path, began: float, *, at_once: bool) -> dict[str, float]:
    """Return what a finished run says of its time."""
    run = RunFolder(path)
    results, lines = run.results(), list(run.events())
    assert results is not None
    starts = [line.time for line in lines if isinstance(line.what, RoundStart)]
    worked: dict[int, list[float]] = {}
    for line in lines:
        if isinstance(line.what, Trained):
            worked.setdefault(line.what.round, []).append(line.what.seconds)
    rounds = len(starts)
    scored = results.costs.evaluation_seconds / (rounds + 2) / (CLIENTS if at_once else 1)  # before, and after exchange
    inside = {round_: (max if at_once else sum)(each) + scored for round_, each in worked.items()}
    whole = [after - before for before, after in itertools.pairwise(starts)]
    over = [seconds - inside[round_] for round_, seconds in enumerate(whole, start=1)]
    return {
        "start_seconds": round(starts[0] - began, 1),
        "round_seconds": round(median(whole), 2),
        "overhead_seconds_per_round": round(median(over), 2),
        "payload_bytes_per_message": int(results.costs.bytes_up),
    }


def run(
    scenario: Path, out: Path, engine: str, more: tuple[str, ...], environment: Mapping[str, str]
) -> dict[str, float]:
    """Run the scenario from the command line."""
    began = time.time()
    command = [
        sys.executable,
        "-m",
        "fedmosaic",
        "run",
        str(scenario),
        "--engine",
        engine,
        "--out",
        str(out),
        "--quiet",
    ]
    subprocess.run([*command, *more], env=dict(environment), check=True)
    return measured(out, began, at_once=engine != "in-process")


def deployed(scenario: Path, folder: Path, *, resident: bool) -> dict[str, float]:
    """Run it on a federation of real processes, whose nodes reach the SuperLink through a counter."""
    home = Path(os.environ.get("FEDMOSAIC_HOME", folder / "home"))

    def counted(running: Federation) -> None:
        running.counter = Counter(running.port)
        running.fleet_port = running.counter.port

    began = time.time()
    with federation(folder / "federation", home, CLIENTS, prepare=counted, resident=resident) as running:
        up = time.time() - began
        before = running.counter.bytes
        found = run(scenario, folder / "run", "deployment", ("--superlink", "here"), running.environment)
        wire = running.counter.bytes - before
        costs = RunFolder(folder / "run").results().costs  # type: ignore[union-attr]
        payload = (costs.total_bytes_up or 0) + (costs.total_bytes_down or 0)
        exchanged = RunFolder(folder / "run").results().exchanged  # type: ignore[union-attr]
        payload += 0 if exchanged is None else int(exchanged.costs.total_bytes_down or 0)
    return {
        "federation_up_seconds": round(up, 1),
        **found,
        "wire_bytes": wire,
        "payload_bytes": payload,
        "wire_over_payload": round(wire / payload, 3),
    }


def main() -> None:
    """Measure all engines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--rank", type=int, default=64, help="of the adapters: the larger, the larger the payload")
    parser.add_argument("--engines", nargs="+", default=["in-process", "simulation", "deployment", "resident"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found: dict[str, object] = {"rounds": asked.rounds, "rank": asked.rank, "clients": CLIENTS, "cpus": os.cpu_count()}
    for engine in asked.engines:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            scenario = folder / "overhead.toml"
            clients = "".join(CLIENT.format(position=position) for position in range(CLIENTS))
            scenario.write_text(SCENARIO.format(rounds=asked.rounds, rank=asked.rank, clients=clients))
            load = os.getloadavg()[0]
            if engine in ("deployment", "resident"):
                figures = deployed(scenario, folder, resident=engine == "resident")
            else:
                figures = run(scenario, folder / "run", engine, (), os.environ)
        found[engine] = {**figures, "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1)}
        print(engine, json.dumps(found[engine]), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
