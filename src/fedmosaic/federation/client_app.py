"""The Flower ``ClientApp``: five messages, the same on every engine.

``query.hello``        who am I, what model do I run, what may I upload
``query.ready``        have I the state that it takes to go on after a round
``train``              take the download, train one round, score the model I have then, answer with upload and scores
``evaluate``           score the model I have after a round in which I did not train
``evaluate.exchange``  take the download after the last round without training, score the model I have then
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedmosaic.config import RunSettings
from fedmosaic.federation import request_checks, wire
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.client_errors import Mod, guarded
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.dealing import clients_on
from fedmosaic.federation.encodings import ENCODINGS
from fedmosaic.federation.node_settings import NodeSettings
from fedmosaic.federation.run_config import run_key, settings_of
from fedmosaic.federation.runtime import ClientRuntime
from fedmosaic.models.device import listed
from fedmosaic.training.lane import clock


def make_app(assets: AssetsOf = Assets, *, mods: Sequence[Mod] = ()) -> ClientApp:
    """Return the app of all clients of one run in this process; they share what they read.

    Args:
        assets: opens what they read, once.
        mods: Flower's: each is called around the answer to every message.
    """
    app = ClientApp(mods=list(mods))
    nodes = _Nodes(assets)

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        return _hello(message, nodes.of(context))

    @app.query("ready")
    def ready(message: Message, context: Context) -> Message:
        return _ready(message, nodes.of(context))

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
        self._runtimes: dict[tuple[str, Path, str], ClientRuntime] = {}

    def of(self, context: Context) -> ClientNode:
        """The client that a node is, as its own configuration says."""
        node, run = NodeSettings.of(context.node_config), run_key(context)
        key = (str(context.run_config.get("settings")), run, node)
        if key not in self._nodes:
            settings = settings_of(context)
            runtime = self._runtime(node.applied_to(settings), node.state_folder(run), _with(node, settings))
            kept = list(self._runtimes.values())
            self._nodes = {old: each for old, each in self._nodes.items() if each.runtime in kept}
            self._nodes[key] = ClientNode(runtime, node.client(settings).id, own_tasks_only=node.own_tasks_only)
        return self._nodes[key]

    def _runtime(self, settings: RunSettings, folder: Path, only: Collection[int] | None) -> ClientRuntime:
        """One for each device that clients of the run compute on; those of other runs are let go."""
        key = (settings.model_copy(update={"device": ""}).to_toml(), folder, settings.device)
        if key not in self._runtimes:
            torch.set_num_threads(settings.threads)
            same_run = {old: each for old, each in self._runtimes.items() if old[:2] == key[:2]}
            self._runtimes = {**same_run, key: ClientRuntime(self._assets(settings), folder, only=only)}
        return self._runtimes[key]


def _with(node: NodeSettings, settings: RunSettings) -> Collection[int] | None:
    """The clients that share a node's runtime: those on its machine, or of them those on its device; None: all."""
    if not node.trust_paths:
        return {node.client(settings).id}
    return clients_on(settings, node.device) if node.device in listed(settings.device) else None


def _hello(message: Message, me: ClientNode) -> Message:
    """Introduce this client."""
    alignment = me.runtime.adapters.alignment
    method = me.runtime.assets.method
    meta: dict[str, int | float | str] = {
        "client": me.spec.id,
        "architecture": me.base.architecture,
        "model": Path(me.spec.model).name,  # where a node keeps its model is its own affair
        "alignment": alignment.identity if alignment else "",
        "proxy": me.adapter.proxy.shape.architecture if me.adapter.proxy else "",
        "upload": json.dumps(method.upload_shapes(me.adapter)),
        "download": json.dumps(method.download_shapes(me.adapter)),
        "own-tasks-only": me.own_tasks_only,
    }
    return Message(wire.pack(meta), reply_to=message)


def _ready(message: Message, me: ClientNode) -> Message:
    """Say whether this client's state after a round is there and whole."""
    asked = request_checks.resumption(message.content, me)
    whole = not me.runtime.states.lacks(me.spec, asked["round"], known=asked["known"])
    about = {"client": me.spec.id, "round": asked["round"], "run": asked["run"], "ready": whole}
    return Message(wire.pack(about), reply_to=message)


def _train(message: Message, me: ClientNode) -> Message:
    """Train one round and score what has come of it."""
    assets = me.runtime.assets
    asked, download = request_checks.training(message.content, me)
    upload, meter = me.train_round(asked["round"], download, known=asked["known"])
    start = clock()
    scores = me.evaluate(asked["round"], others=asked["others"], count=asked["count"], known=asked["round"])
    content = wire.pack(
        {"client": me.spec.id, "round": asked["round"], "run": asked["run"]},
        upload,
        agreed=assets.method.upload_shapes(me.adapter),
        encoding=ENCODINGS[assets.settings.wire.uploads],
    )
    done = {
        "loss": meter.loss or 0.0,  # which says nothing where no step was taken
        "steps": meter.steps,
        "samples": meter.samples,
        "flops": meter.flops,
        "seconds": meter.seconds,
        "evaluation_seconds": clock() - start,
        **{wire.PRIVACY + name: value for name, value in meter.privacy.items()},
    }
    return Message(wire.add_scores(wire.add_metrics(content, done), scores), reply_to=message)


def _evaluate(message: Message, me: ClientNode) -> Message:
    """Score this client's model."""
    asked = request_checks.evaluation(message.content, me)
    start = clock()
    scores = me.evaluate(asked["round"], others=asked["others"], count=asked["count"], known=asked["known"])
    content = wire.pack({"client": me.spec.id, "round": asked["round"], "run": asked["run"]})
    wire.add_metrics(content, {"seconds": clock() - start})
    return Message(wire.add_scores(content, scores), reply_to=message)


def _exchange(message: Message, me: ClientNode) -> Message:
    """Take up the last download without training, and score the model that answers then."""
    asked, download = request_checks.download(message.content, me)
    start = clock()
    scores = me.exchange(asked["round"], download, known=asked["known"])
    content = wire.pack({"client": me.spec.id, "round": asked["round"], "run": asked["run"]})
    wire.add_metrics(content, {"seconds": clock() - start})
    return Message(wire.add_scores(content, scores), reply_to=message)


app = make_app(mods=[guarded])
