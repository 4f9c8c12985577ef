"""Everything that a client's reply can do wrong is found here, in full, before anything of it is used."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import RecordDict
from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.errors import WireError
from fedmosaic.federation import wire
from fedmosaic.federation.encodings import ENCODINGS
from fedmosaic.federation.peers import Peer
from fedmosaic.federation.results import PrivacySpent
from fedmosaic.methods.base import Method
from fedmosaic.methods.uploads import Upload

_MOST_LOSS = 3.5e38  # just above float32's largest number, which the loss of a model that diverges can reach
_MOST_FLOPS = 1e24  # of a round: more than most models have cost altogether
_MOST_SECONDS = 1e9  # thirty years
_WITHIN = {
    "loss": (-_MOST_LOSS, _MOST_LOSS),
    "steps": (0, math.inf),
    "samples": (0, math.inf),
    "flops": (0, _MOST_FLOPS),
    "seconds": (0, _MOST_SECONDS),
    "evaluation_seconds": (0, _MOST_SECONDS),
}
"""Bounds of what a client says that it has done; sums over clients and rounds stay finite within them."""
_KNOWN = {entry.name for entry in dataclasses.fields(PrivacySpent)}
_NEEDED = {entry.name for entry in dataclasses.fields(PrivacySpent) if entry.default is dataclasses.MISSING}
_MOST_TIMES = 1000
_MOST_SCORES = 2**20


@dataclass(frozen=True)
class ScoresReply:
    """A client's checked scores: the answer to ``evaluate`` and ``evaluate.exchange``, and a part of that to ``train``.

    Attributes:
        scores: of single samples, in [0, 1], by task.
        seconds: that it took the client.
    """

    scores: Mapping[str, tuple[float, ...]]
    seconds: float


@dataclass(frozen=True)
class TrainReply:
    """A client's checked answer to ``train``.

    Attributes:
        tensors: of the upload, by name.
        done: ``loss``, ``steps``, ``samples``, ``flops``, ``seconds``, and what the uploads tell.
        bytes: of the upload, as sent.
        scores: of the model after training.
    """

    tensors: Mapping[str, Tensor]
    done: Mapping[str, float]
    bytes: int
    scores: ScoresReply

    @property
    def samples(self) -> int:
        """Training samples seen in the round."""
        return int(self.done["samples"])


class ReplyChecks:
    """Checks the replies of a run's clients.

    Args:
        settings: of the run.
        method: of the run.
    """

    def __init__(self, settings: RunSettings, method: Method[Any]) -> None:
        self._settings = settings
        self._method = method
        self._run = settings.digest

    def train_reply(self, peer: Peer, content: RecordDict, round_: int, *, others: bool, count: int = 0) -> TrainReply:
        """Return what a client answers to ``train``.

        Args:
            peer: the client.
            content: of its reply.
            round_: that it was asked to train in.
            others: whether it was asked to score all clients' tasks, or its own only.
            count: how many test samples of each task it was asked to score; 0: all.

        Raises:
            WireError: names the client and what is wrong; nothing of the reply may be used then.
        """
        sender, elastic = peer.title, self._method.elastic
        wire.check_records(content, {"meta", "metrics", "schema", "scores", "tensors"}, sender=sender)
        self._check_origin(peer, content, round_)
        done = wire.metrics(content, sender=sender)
        self._check_work(done, sender)
        scores = self._checked_scores(peer, content, others, count)
        tensors = wire.unpack(
            content,
            peer.shapes,
            sender=sender,
            complete=not elastic,
            elastic=elastic,
            encoding=ENCODINGS[self._settings.wire.uploads],
            max_rms=self._settings.wire.max_rms,
        )
        if peer.shapes and not tensors:
            raise WireError(f"{sender} sent no tensors; it announced {len(peer.shapes)}")
        reply = TrainReply(tensors, done, wire.size(content), ScoresReply(scores, done["evaluation_seconds"]))
        self._check_by_method(Upload(peer.client, peer.architecture, tensors, reply.samples, round_))
        return reply

    def _check_by_method(self, upload: Upload) -> None:
        """What a method's own check trips over is the upload's fault, and ends no run that goes on without it."""
        try:
            self._method.check_upload(upload)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise WireError(
                f"client {upload.client} sent an upload that method {self._method.name!r} cannot use "
                f"({type(error).__name__}: {wire.quoted(str(error))}); install the server's release on its machine"
            ) from error

    def scores_reply(
        self, peer: Peer, content: RecordDict, round_: int, *, others: bool = True, count: int = 0
    ) -> ScoresReply:
        """Return what a client answers to ``evaluate`` or ``evaluate.exchange``.

        Args:
            peer: the client.
            content: of its reply.
            round_: after which it was asked to score its model.
            others: whether it was asked for all clients' tasks, or for its own only.
            count: of how many test samples of each task; 0: of all.

        Raises:
            WireError: names the client and what is wrong; nothing of the reply may be used then.
        """
        sender = peer.title
        wire.check_records(content, {"meta", "metrics", "scores"}, sender=sender)
        self._check_origin(peer, content, round_)
        done = wire.metrics(content, sender=sender)
        if done.keys() != {"seconds"} or not 0 <= done["seconds"] <= _MOST_SECONDS:
            expected = f"expected seconds from 0 to {_MOST_SECONDS:g}"
            raise WireError(f"{sender} sent the metrics {wire.quoted(done)} with its scores; {expected}")
        return ScoresReply(self._checked_scores(peer, content, others, count), done["seconds"])

    def _checked_scores(
        self, peer: Peer, content: RecordDict, others: bool, count: int
    ) -> dict[str, tuple[float, ...]]:
        """Scores of exactly the tasks that were asked for, and of no more samples of each than that.

        They may be of fewer: how many test samples there are is known to clients alone, which may have their own.
        """
        sender, scenario = peer.title, self._settings.scenario
        scores = wire.scores(content, sender=sender)
        tasks = scenario.task_names if others and not peer.own_tasks_only else scenario.client(peer.client).tasks
        if unlike := sorted(scores.keys() ^ set(tasks)):
            what = "left out the scores of" if unlike[0] in tasks else "sent scores of"
            raise WireError(f"{sender} {what} {wire.quoted(unlike[0])}; asked were {len(tasks)} task(s)")
        for task, each in scores.items():
            if count and len(each) > count:
                raise WireError(f"{sender} sent {len(each)} scores of {wire.quoted(task)}; asked were at most {count}")
        if sum(map(len, scores.values())) > _MOST_SCORES:
            raise WireError(f"{sender} sent {sum(map(len, scores.values()))} scores; the limit is {_MOST_SCORES}")
        return scores

    def ready_reply(self, peer: Peer, content: RecordDict, round_: int) -> bool:
        """Return what a client answers to ``query.ready``: whether its state after a round is there and whole.

        Args:
            peer: the client.
            content: of its reply.
            round_: after which it was asked for.

        Raises:
            WireError: names the client and what is wrong.
        """
        wire.check_records(content, {"meta"}, sender=peer.title)
        self._check_origin(peer, content, round_)
        return bool(wire.meta(content, {"ready": bool}, sender=peer.title)["ready"])

    def _check_origin(self, peer: Peer, content: RecordDict, round_: int) -> None:
        """A reply of another round (late, early or replayed), of another run, or in another client's name."""
        said = wire.meta(content, {"client": int, "round": int, "run": str}, sender=peer.title)
        wanted = {"client": peer.client, "round": round_, "run": self._run}
        for key, value in wanted.items():
            if said[key] != value:
                raise WireError(f"{peer.title} answered for {key} {wire.quoted(said[key])}; expected {value!r}")

    def _check_work(self, done: Mapping[str, float], sender: str) -> None:
        """What the client says that it has done: everything that is counted, and nothing else."""
        told = {key.removeprefix(wire.PRIVACY) for key in done if key.startswith(wire.PRIVACY)}
        own = {key for key in done if not key.startswith(wire.PRIVACY)}
        if unlike := sorted(own ^ _WITHIN.keys()):
            what = "left out" if unlike[0] in _WITHIN else "sent"
            raise WireError(f"{sender} {what} the metric {wire.quoted(unlike[0])}; expected {', '.join(_WITHIN)}")
        training = self._settings.training
        steps = _MOST_TIMES * math.ceil(training.steps)
        of_run = {"steps": (0, steps), "samples": (0, steps * training.batch_size)}
        for key, (least, most) in (_WITHIN | of_run).items():
            if not least <= done[key] <= most:
                raise WireError(f"{sender} sent {key} = {done[key]:g}; expected {least:g} to {most:g}")
        if not told:
            return
        if not _NEEDED <= told <= _KNOWN:
            expected = "expected epsilon, delta and, if known, noise_multiplier"
            raise WireError(f"{sender} keeps account of {wire.quoted(', '.join(sorted(told)))}; {expected}")
        for key in told:
            if done[wire.PRIVACY + key] < 0:
                raise WireError(f"{sender} sent {wire.PRIVACY}{key} = {done[wire.PRIVACY + key]:g}; expected 0 or more")
