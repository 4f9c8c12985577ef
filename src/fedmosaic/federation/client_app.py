"""The Flower ``ClientApp``: three messages, the same on every engine.

``query.hello``  who am I, what model do I run, what may I upload
``train``        take the download, train one round, answer with the upload
``evaluate``     score the model I have after a round
"""

from __future__ import annotations

import json
import time
import tomllib
from functools import cache, lru_cache
from pathlib import Path

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedmosaic.config import RunSettings, validate
from fedmosaic.federation import wire
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.runtime import ClientRuntime

app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Introduce this client."""
    me = _node(context)
    alignment = me.runtime.adapters.alignment
    shapes = {name: list(shape) for name, shape in me.runtime.assets.method.upload_shapes(me.adapter).items()}
    meta: dict[str, int | float | str] = {
        "client": me.spec.id,
        "architecture": me.base.architecture,
        "model": me.spec.model,
        "alignment": alignment.identity if alignment else "",
        "proxy": me.adapter.proxy.shape.architecture if me.adapter.proxy else "",
    }
    return Message(wire.pack({**meta, "upload": json.dumps(shapes)}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round."""
    me = _node(context)
    asked = wire.meta(message.content, {"round": int, "run": str}, sender="the server")
    method = me.runtime.assets.method
    allowed = method.download_shapes(me.adapter)
    download = wire.unpack(message.content, allowed, sender="the server", elastic=method.elastic)
    upload, meter = me.train_round(asked["round"], download)
    content = wire.pack({"client": me.spec.id, "round": asked["round"], "run": asked["run"]}, upload)
    done = {
        "loss": meter.loss,
        "steps": meter.steps,
        "samples": meter.samples,
        "flops": meter.flops,
        "seconds": meter.seconds,
        **{wire.PRIVACY + name: value for name, value in meter.privacy.items()},
    }
    return Message(wire.add_metrics(content, done), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score this client's model."""
    me = _node(context)
    expected = {"round": int, "run": str, "others": bool, "count": int}
    asked = wire.meta(message.content, expected, sender="the server")
    start = time.perf_counter()
    scores = me.evaluate(asked["round"], others=asked["others"], count=asked["count"])
    content = wire.pack({"client": me.spec.id, "round": asked["round"], "run": asked["run"]})
    wire.add_metrics(content, {"seconds": time.perf_counter() - start})
    return Message(wire.add_scores(content, scores), reply_to=message)


def _node(context: Context) -> ClientNode:
    """The client that this node is: its position in the scenario is the node's ``partition-id``."""
    config = context.run_config
    return _cached_node(str(config["settings"]), str(config["client-folder"]), int(context.node_config["partition-id"]))


@cache
def _cached_node(settings: str, folder: str, position: int) -> ClientNode:
    runtime = _runtime(settings, folder)
    return ClientNode(runtime, runtime.assets.settings.scenario.clients[position].id)


@lru_cache(maxsize=1)
def _runtime(settings: str, folder: str) -> ClientRuntime:
    parsed = validate(RunSettings, tomllib.loads(settings), source="the run's settings")
    torch.set_num_threads(parsed.threads)
    return ClientRuntime(Assets(parsed), Path(folder))


def forget() -> None:
    """Drop all cached clients and models (before another run in the same process)."""
    _cached_node.cache_clear()
    _runtime.cache_clear()
