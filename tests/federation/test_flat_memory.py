"""The server's memory does not grow with the number of clients: uploads and downloads are on disk."""

import json
import subprocess
import sys

import pytest

RUN = """
import resource, sys
from pathlib import Path

import torch
from flwr.app import Message
from flwr.clientapp import ClientApp

from fedmosaic.config import resolve
from fedmosaic.config.scenario import Scenario
from fedmosaic.federation import wire
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.server import Server

count, path = int(sys.argv[1]), Path(sys.argv[2])
SHAPES = {"layer.0.q.A": (16, 8000), "layer.0.q.B": (8000, 16), "block.0.q.P": (16, 16), "block.0.q.Q": (16,)}
SHAPES["sketch"] = (64,)
app = ClientApp()


def me(message, context):
    return int(context.node_config["partition-id"])


@app.query("hello")
def hello(message, context):
    import json
    about = {"client": me(message, context), "architecture": "one", "model": "one", "alignment": "", "proxy": ""}
    shapes = json.dumps({name: list(shape) for name, shape in SHAPES.items()})
    return Message(wire.pack({**about, "upload": shapes, "download": shapes}), reply_to=message)


@app.train()
def train(message, context):
    client = me(message, context)
    asked = wire.meta(message.content, {"round": int, "run": str}, sender="the server")
    received = wire.unpack(message.content, SHAPES, sender="the server")
    assert (asked["round"] == 1) == (not received)
    random = torch.Generator().manual_seed(client)
    upload = {name: torch.randn(shape, generator=random) for name, shape in SHAPES.items()}
    content = wire.pack({"client": client, **asked}, upload)
    done = {"loss": 1.0, "steps": 1, "samples": 8, "flops": 1.0, "seconds": 0.0}
    return Message(wire.add_metrics(content, done), reply_to=message)


@app.evaluate("exchange")
@app.evaluate()
def evaluate(message, context):
    client = me(message, context)
    asked = wire.meta(message.content, {"round": int, "run": str}, sender="the server")
    content = wire.add_metrics(wire.pack({"client": client, **asked}), {"seconds": 0.0})
    both = message.content["meta"].get("others", True)
    tasks = ("task", "other") if both else ("task",) if client else ("other",)
    return Message(wire.add_scores(content, {task: [0.5] for task in tasks}), reply_to=message)


clients = [{"id": i, "model": "tiny-llama", "tasks": ["task" if i else "other"]} for i in range(count)]
settings = resolve(Scenario(name="many", clients=clients), method="fedmosaic", rounds=2)
grid = InProcessGrid(app, node_configs=[{"partition-id": i} for i in range(count)], run_config={})
Server(grid, settings, RunFolder.create(path, settings)).run()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(count: int, path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(count), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_two_hundred_clients_take_no_more_memory_than_one_hundred(tmp_path):
    few, many = peak(100, tmp_path / "few"), peak(200, tmp_path / "many")
    # Another 100 clients upload, and are sent, 100 MB each way; in memory the server would hold several times that.
    assert many - few < 40 * 1024  # KiB
    uploads = list((tmp_path / "many" / "uploads").glob("*/*.safetensors"))
    assert len(uploads) == 400  # of the two rounds whose checkpoints are kept
    checkpoint = tmp_path / "many" / "checkpoints" / "round-0002"
    assert len(json.loads((checkpoint / "progress.json").read_text())["uploads"]) == 200
    assert not (tmp_path / "many" / "scratch").exists()
