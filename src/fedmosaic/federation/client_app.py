"""The Flower ``ClientApp``: four messages, the same on every engine.

``query.hello``        who am I, what model do I run, what may I upload
``train``              take the download, train one round, answer with the upload
``evaluate``           score the model I have after a round
``evaluate.exchange``  take the download after the last round without training, score the model I have then
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.federation import wire
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.node_settings import NodeSettings
from fedmosaic.federation.run_config import run_key, settings_of
from fedmosaic.federation.runtime import ClientRuntime


def make_app(assets: AssetsOf = Assets) -> ClientApp:
    """Return the app of all clients of one run in this process; they share what they read.

    Args:
        assets: opens what they read, once.
    """
    app = ClientApp()
    nodes = _Nodes(assets)

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        return _hello(message, nodes.of(context))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _train(message, nodes.of(context))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _evaluate(message, nodes.of(context))

    @app.evaluate("exchange")
    def exchange(message: Message, context: Context) -> Message:
        return _exchange(message, nodes.of(context))

    return app


class _Nodes:
    """The clients of one run, made when their first message comes."""

    def __init__(self, assets: AssetsOf) -> None:
        self._assets = assets
        self._nodes: dict[tuple[str, str, NodeSettings], ClientNode] = {}
        self._runtimes: dict[tuple[str, Path], ClientRuntime] = {}

    def of(self, context: Context) -> ClientNode:
        """The client that a node is, as its own configuration says."""
        node, run = NodeSettings.of(context.node_config), run_key(context)
        key = (str(context.run_config.get("settings")), run, node)
        if key not in self._nodes:
            settings = settings_of(context)
            runtime = self._runtime(node.applied_to(settings), node.state_folder(run), node)
            self._nodes = {old: each for old, each in self._nodes.items() if each.runtime is runtime}
            self._nodes[key] = ClientNode(runtime, node.client(settings).id, own_tasks_only=node.own_tasks_only)
        return self._nodes[key]

    def _runtime(self, settings: RunSettings, folder: Path, node: NodeSettings) -> ClientRuntime:
        key = (settings.to_toml(), folder)
        if key not in self._runtimes:
            torch.set_num_threads(settings.threads)
            only = None if node.trust_paths else node.client(settings).id
            self._runtimes = {key: ClientRuntime(self._assets(settings), folder, only=only)}
        return self._runtimes[key]


def _hello(message: Message, me: ClientNode) -> Message:
    """Introduce this client."""
    alignment = me.runtime.adapters.alignment
    shapes = {name: list(shape) for name, shape in me.runtime.assets.method.upload_shapes(me.adapter).items()}
    meta: dict[str, int | float | str] = {
        "client": me.spec.id,
        "architecture": me.base.architecture,
        "model": Path(me.spec.model).name,  # where a node keeps its model is its own affair
        "alignment": alignment.identity if alignment else "",
        "proxy": me.adapter.proxy.shape.architecture if me.adapter.proxy else "",
    }
    return Message(wire.pack({**meta, "upload": json.dumps(shapes)}), reply_to=message)


def _train(message: Message, me: ClientNode) -> Message:
    """Train one round."""
    asked = wire.meta(message.content, {"round": int, "run": str}, sender="the server")
    upload, meter = me.train_round(asked["round"], _download(me, message))
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


def _evaluate(message: Message, me: ClientNode) -> Message:
    """Score this client's model."""
    expected = {"round": int, "run": str, "others": bool, "count": int}
    asked = wire.meta(message.content, expected, sender="the server")
    start = time.perf_counter()
    scores = me.evaluate(asked["round"], others=asked["others"], count=asked["count"])
    content = wire.pack({"client": me.spec.id, "round": asked["round"], "run": asked["run"]})
    wire.add_metrics(content, {"seconds": time.perf_counter() - start})
    return Message(wire.add_scores(content, scores), reply_to=message)


def _exchange(message: Message, me: ClientNode) -> Message:
    """Take up the last download without training, and score the model that answers then."""
    asked = wire.meta(message.content, {"round": int, "run": str}, sender="the server")
    start = time.perf_counter()
    scores = me.exchange(asked["round"], _download(me, message))
    content = wire.pack({"client": me.spec.id, "round": asked["round"], "run": asked["run"]})
    wire.add_metrics(content, {"seconds": time.perf_counter() - start})
    return Message(wire.add_scores(content, scores), reply_to=message)


def _download(me: ClientNode, message: Message) -> dict[str, Tensor]:
    """Return what the server sent: nothing but what the method announces."""
    method = me.runtime.assets.method
    return wire.unpack(message.content, method.download_shapes(me.adapter), sender="the server", elastic=method.elastic)


app = make_app()
