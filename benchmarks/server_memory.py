"""The server's peak memory in whole runs with many clients, whose answers come one by one or all at once.

    python benchmarks/server_memory.py                        # writes results/server-memory.json
    python benchmarks/server_memory.py --clients 50,100 --out /tmp/memory.json

Two rounds of FedMosaic and the last exchange on the in-process grid, with stand-ins for the clients: each uploads 1 MB
of normally distributed values and a sketch. ``at-once`` keeps all answers of an exchange in files until the last one is
there, as a SuperLink does whose ServerApp was slow. Each number of clients has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedmosaic.config import resolve
from fedmosaic.config.scenario import Scenario
from fedmosaic.federation import wire
from fedmosaic.federation.flower import message_bytes, message_of
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.server import Server
from fedmosaic.processes import peak_memory

SHAPES = {"layer.0.q.A": (16, 8000), "layer.0.q.B": (8000, 16), "block.0.q.P": (16, 16), "block.0.q.Q": (16,)}
SHAPES["sketch"] = (64,)
MODES = ("one-by-one", "at-once")


def client_app() -> ClientApp:
    """Return clients that have no models: node k is client k of one architecture."""
    app = ClientApp()

    def about(message: Message, context: Context) -> dict[str, Any]:
        asked = wire.meta(message.content, {"round": int, "run": str}, sender="the server")
        return {"client": int(context.node_config["partition-id"]), **asked}

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        shapes = json.dumps({name: list(shape) for name, shape in SHAPES.items()})
        texts = {
            "architecture": "one",
            "model": "one",
            "alignment": "",
            "proxy": "",
            "upload": shapes,
            "download": shapes,
        }
        who = {"client": int(context.node_config["partition-id"]), "own-tasks-only": False}
        return Message(wire.pack(who | texts), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        meta = about(message, context)
        received = wire.unpack(message.content, SHAPES, sender="the server")
        assert (meta["round"] == 1) == (not received)
        random = torch.Generator().manual_seed(meta["client"])
        upload = {name: torch.randn(shape, generator=random) for name, shape in SHAPES.items()}
        done = {"loss": 1.0, "steps": 1, "samples": 8, "flops": 1.0, "seconds": 0.0, "evaluation_seconds": 0.0}
        return scored(message, wire.add_metrics(wire.pack(meta, upload), done), meta["client"])

    @app.evaluate("exchange")
    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        meta = about(message, context)
        return scored(message, wire.add_metrics(wire.pack(meta), {"seconds": 0.0}), meta["client"])

    def scored(message: Message, content: RecordDict, client: int) -> Message:
        both = message.content["meta"].get("others", True)
        tasks = ("task", "other") if both else ("task",) if client else ("other",)
        return Message(wire.add_scores(content, {task: [0.5] for task in tasks}), reply_to=message)

    return app


class AtOnce(InProcessGrid):
    """Gives out no answer until every node has been asked; until then answers are files."""

    def __init__(self, folder: Path, nodes: int, **options: Any) -> None:
        super().__init__(client_app(), **options)
        self._folder, self._nodes, self._kept = folder, nodes, 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep the answers."""
        ids = list(super().push_messages(messages))
        for reply in super().pull_messages(ids):
            (self._folder / reply.metadata.reply_to_message_id).write_bytes(message_bytes(reply))
            self._kept += 1
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Give out the answers to these messages, once all are there."""
        if self._kept % self._nodes:
            return []
        paths = [path for each in message_ids if (path := self._folder / each).exists()]
        replies = [message_of(path.read_bytes()) for path in paths]
        for path in paths:
            path.unlink()
        return replies


def run(count: int, mode: str, path: Path) -> int:
    """Make one run and return the peak of this process's memory in bytes."""
    clients = [{"id": i, "model": "tiny-llama", "tasks": ["task" if i else "other"]} for i in range(count)]
    settings = resolve(Scenario(name="many", clients=clients), method="fedmosaic", rounds=2)
    options: dict[str, Any] = {"node_configs": [{"partition-id": i} for i in range(count)], "run_config": {}}
    with tempfile.TemporaryDirectory() as kept:
        grid = AtOnce(Path(kept), count, **options) if mode == "at-once" else InProcessGrid(client_app(), **options)
        Server(grid, settings, RunFolder.create(path, settings)).run()
    return peak_memory() or 0


def measured(count: int, mode: str) -> int:
    """Return the peak of a process of its own in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", f"{count}", mode, f"{folder}/run"]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="25,50,100,200")
    parser.add_argument("--out", type=Path, default=Path("results/server-memory.json"))
    parser.add_argument("--one", nargs=3, metavar=("CLIENTS", "MODE", "FOLDER"))
    asked = parser.parse_args(arguments)
    if asked.one:
        print(run(int(asked.one[0]), asked.one[1], Path(asked.one[2])))
        return
    rows = [
        {"clients": count, "answers": mode, "bytes_of_one_upload": 4 * 256_336, "peak_bytes": measured(count, mode)}
        for mode in MODES
        for count in map(int, asked.clients.split(","))
    ]
    asked.out.write_text(json.dumps({"command": "python benchmarks/server_memory.py", "rows": rows}, indent=1) + "\n")
    for row in rows:
        print(f"{row['clients']:>6} clients, answers {row['answers']}: {row['peak_bytes'] / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
