"""What the server asks of a client, checked by the client as the server checks replies: in full, before any use."""

from __future__ import annotations

from typing import Any

from flwr.app import RecordDict
from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.errors import WireError
from fedmosaic.federation import wire
from fedmosaic.federation.client_node import ClientNode

_SERVER = "the server"
_TO_SCORE: dict[str, type] = {"others": bool, "count": int}


def download(content: RecordDict, me: ClientNode) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what the message is about, and the tensors in it: nothing but what the method announces.

    Args:
        content: of a message ``evaluate.exchange``.
        me: the client that it reached.

    Returns:
        ``round``, ``run`` and ``known``, and the tensors by name.

    Raises:
        WireError: says what is wrong; nothing of the message may be used then.
    """
    return _download(content, me, {})


def training(content: RecordDict, me: ClientNode) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a client is to train and to score, and the tensors that it begins with.

    Args:
        content: of a message ``train``.
        me: the client that it reached.

    Returns:
        ``round``, ``run``, ``known``, ``others`` and ``count``, and the tensors by name.

    Raises:
        WireError: says what is wrong; nothing of the message may be used then.
    """
    asked, tensors = _download(content, me, _TO_SCORE)
    return _counted(asked), tensors


def _download(content: RecordDict, me: ClientNode, more: dict[str, type]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    method, settings = me.runtime.assets.method, me.runtime.assets.settings
    wire.check_records(content, {"meta", "schema", "tensors"}, sender=_SERVER)
    asked = _meta(content, more, settings, first=1)
    tensors = wire.unpack(
        content,
        method.download_shapes(me.adapter),
        sender=_SERVER,
        elastic=method.elastic,
        max_rms=settings.wire.max_rms,
    )
    return asked, tensors


def evaluation(content: RecordDict, me: ClientNode) -> dict[str, Any]:
    """Return what a client is asked to score.

    Args:
        content: of a message ``evaluate``.
        me: the client that it reached.

    Returns:
        ``round``, ``run``, ``known``, ``others`` and ``count``.

    Raises:
        WireError: says what is wrong.
    """
    wire.check_records(content, {"meta"}, sender=_SERVER)
    return _counted(_meta(content, _TO_SCORE, me.runtime.assets.settings, first=0))


def _counted(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["count"] < 0:
        raise WireError(f"{_SERVER} asked for {asked['count']} samples of each task; expected 0 (all) or more")
    return asked


def resumption(content: RecordDict, me: ClientNode) -> dict[str, Any]:
    """Return the round after which a client is to go on.

    Args:
        content: of a message ``query.ready``.
        me: the client that it reached.

    Returns:
        ``round``, ``run`` and ``known``.

    Raises:
        WireError: says what is wrong.
    """
    wire.check_records(content, {"meta"}, sender=_SERVER)
    return _meta(content, {}, me.runtime.assets.settings, first=0)


def _meta(content: RecordDict, more: dict[str, type], settings: RunSettings, *, first: int) -> dict[str, Any]:
    """The table that every message has: ``known`` is the last round whose training by this client has counted."""
    asked = wire.meta(content, {"round": int, "run": str, "known": int, **more}, sender=_SERVER)
    if not first <= asked["round"] <= settings.rounds:
        raise WireError(f"{_SERVER} asked for round {asked['round']}; expected {first} to {settings.rounds}")
    if not 0 <= asked["known"] <= asked["round"]:
        raise WireError(f"{_SERVER} knows of round {asked['known']} in round {asked['round']}; expected none after it")
    return asked
