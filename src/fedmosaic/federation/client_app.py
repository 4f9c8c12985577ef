"""The Flower ``ClientApp``: four messages, the same on every engine.

``query.hello``        who am I, what model do I run, what may I upload
``train``              take the download, train one round, answer with the upload
``evaluate``           score the model I have after a round
``evaluate.exchange``  take the download after the last round without training, score the model I have then
"""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedmosaic.config import RunSettings, validate
from fedmosaic.federation import request_checks, wire
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.encodings import ENCODINGS
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
        self._runtimes: dict[tuple[str, str], ClientRuntime] = {}
        self._nodes: dict[tuple[str, str, int], ClientNode] = {}

    def of(self, context: Context) -> ClientNode:
        """The client that a node is: its position in the scenario is the node's ``partition-id``."""
        run = str(context.run_config["settings"]), str(context.run_config["client-folder"])
        position = int(context.node_config["partition-id"])
        if (*run, position) not in self._nodes:
            runtime = self._runtime(*run)
            client = runtime.assets.settings.scenario.clients[position].id
            self._nodes[*run, position] = ClientNode(runtime, client)
        return self._nodes[*run, position]

    def _runtime(self, settings: str, folder: str) -> ClientRuntime:
        if (settings, folder) not in self._runtimes:
            parsed = validate(RunSettings, tomllib.loads(settings), source="the run's settings")
            torch.set_num_threads(parsed.threads)
            self._runtimes = {(settings, folder): ClientRuntime(self._assets(parsed), Path(folder))}
        return self._runtimes[settings, folder]


def _hello(message: Message, me: ClientNode) -> Message:
    """Introduce this client."""
    alignment = me.runtime.adapters.alignment
    method = me.runtime.assets.method
    meta: dict[str, int | float | str] = {
        "client": me.spec.id,
        "architecture": me.base.architecture,
        "model": me.spec.model,
        "alignment": alignment.identity if alignment else "",
        "proxy": me.adapter.proxy.shape.architecture if me.adapter.proxy else "",
        "upload": json.dumps(method.upload_shapes(me.adapter)),
        "download": json.dumps(method.download_shapes(me.adapter)),
    }
    return Message(wire.pack(meta), reply_to=message)


def _train(message: Message, me: ClientNode) -> Message:
    """Train one round."""
    assets = me.runtime.assets
    asked, download = request_checks.download(message.content, me)
    upload, meter = me.train_round(asked["round"], download)
    content = wire.pack(
        {"client": me.spec.id, **asked},
        upload,
        agreed=assets.method.upload_shapes(me.adapter),
        encoding=ENCODINGS[assets.settings.wire.uploads],
    )
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
    asked = request_checks.evaluation(message.content, me)
    start = time.perf_counter()
    scores = me.evaluate(asked["round"], others=asked["others"], count=asked["count"])
    content = wire.pack({"client": me.spec.id, "round": asked["round"], "run": asked["run"]})
    wire.add_metrics(content, {"seconds": time.perf_counter() - start})
    return Message(wire.add_scores(content, scores), reply_to=message)


def _exchange(message: Message, me: ClientNode) -> Message:
    """Take up the last download without training, and score the model that answers then."""
    asked, download = request_checks.download(message.content, me)
    start = time.perf_counter()
    scores = me.exchange(asked["round"], download)
    content = wire.pack({"client": me.spec.id, "round": asked["round"], "run": asked["run"]})
    wire.add_metrics(content, {"seconds": time.perf_counter() - start})
    return Message(wire.add_scores(content, scores), reply_to=message)


app = make_app()
