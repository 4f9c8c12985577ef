"""The server's round: aggregate, send, collect, validate, measure, checkpoint; no method and no engine by name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.errors import RunError, WireError
from fedmosaic.evaluation import Measurement, milestones
from fedmosaic.federation import participation, wire
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.results import Progress
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.methods.base import Aggregation, Upload, Uploads

_MAX_VALUES = 2**31


@dataclass(frozen=True)
class Peer:
    """A client as the server knows it: what it said of itself, checked against the scenario."""

    client: int
    node: int
    architecture: str
    alignment: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def title(self) -> str:
        """For error texts."""
        return f"client {self.client}"


class Server:
    """Runs all rounds of one run.

    Args:
        grid: the engine.
        settings: the run's settings.
        folder: the run folder; it decides where to go on.
        assets: opens what the server reads.
    """

    def __init__(self, grid: Grid, settings: RunSettings, folder: RunFolder, assets: AssetsOf = Assets) -> None:
        self.grid = grid
        self.settings = settings
        self.folder = folder
        self.context = ServerContext(assets(settings))
        self._run = settings.digest
        self._schedule = participation.schedule(settings)
        self._started = time.perf_counter()

    def run(self) -> Progress:
        """Run or go on to the last round and return the whole history."""
        peers = self._meet()
        progress, uploads, state = self._load()
        if progress.round == 0 and not progress.history:
            self._measure(progress, peers, 0)
        if 0 < progress.round == progress.until < self.settings.rounds:
            progress.history.pop()  # measured as the last round, which it is no more
            self._measure(progress, peers, progress.round)
        progress.until = self.settings.rounds
        start = progress.round + 1
        for round_ in range(start, self.settings.rounds + 1):
            self.folder.event("round", round=round_, rounds=self.settings.rounds)
            training = [peer for peer in peers if peer.client in self._schedule[round_]]
            uploads = uploads.since(participation.oldest_that_counts(self.settings, round_))
            aggregation = self._aggregate(progress, round_, training, uploads.towards(self._schedule[round_]), state)
            uploads = uploads.updated(self._train(progress, training, round_, aggregation))
            state = aggregation.state
            progress.round = round_
            if progress.privacy:
                self.folder.event(
                    "privacy", round=round_, **(progress.privacy_results(self.context.method.guarantee) or {})
                )
            self._measure(progress, peers, round_)
            self._checkpoint(progress, uploads, state)
        return progress

    # ---- the parts of a round ------------------------------------------------------------------------------------

    def _meet(self) -> list[Peer]:
        """Ask every node who it is; all clients of the scenario must be there, each once."""
        nodes = list(self.grid.get_node_ids())
        replies = self._exchange("query.hello", {node: wire.pack({"run": self._run}) for node in nodes}, round_=0)
        peers = sorted((_introduction(node, content) for node, content in replies), key=lambda peer: peer.client)
        present, wanted = [peer.client for peer in peers], sorted(c.id for c in self.settings.scenario.clients)
        if present != wanted:
            raise RunError(f"the scenario needs the clients {wanted}, but {present} answered")
        _check_shared_shapes(peers)
        _check_alignment(peers)
        return peers

    def _aggregate(
        self,
        progress: Progress,
        round_: int,
        training: Sequence[Peer],
        uploads: Uploads,
        state: Mapping[str, Tensor],
    ) -> Aggregation:
        if not uploads:
            return Aggregation(downloads={})
        before = self.context.spent.flops
        aggregation = self.context.aggregate(uploads, state, round_)
        progress.flops += self.context.spent.flops - before
        newcomers = [peer for peer in training if peer.client not in uploads]
        welcome = self.context.method.welcome
        aggregation = aggregation.with_downloads(
            {peer.client: welcome(peer.architecture, peer.shapes, uploads) for peer in newcomers}
        )
        if aggregation.relevance is not None:
            # The matrix is that of the uploads up to the round before, which this round's downloads are made from.
            everyone = participation.present(self.settings, 0)
            similarity = aggregation.similarity
            self.folder.write_relevance(
                round_ - 1,
                _among(everyone, uploads, aggregation.relevance),
                None if similarity is None else _among(everyone, uploads, similarity),
            )
        return aggregation

    def _train(self, progress: Progress, peers: Sequence[Peer], round_: int, aggregation: Aggregation) -> Uploads:
        requests = {
            peer.node: wire.pack({"round": round_, "run": self._run}, aggregation.downloads.get(peer.client))
            for peer in peers
        }
        by_node = {peer.node: peer for peer in peers}
        elastic = self.context.method.elastic
        uploads = []
        for node, content in self._exchange("train", requests, round_=round_):
            peer = by_node[node]
            self._check_origin(peer, content, round_)
            tensors = wire.unpack(content, peer.shapes, sender=peer.title, complete=not elastic, elastic=elastic)
            done = wire.metrics(content, sender=peer.title)
            uploads.append(Upload(peer.client, peer.architecture, tensors, int(done.get("samples", 0)), round_))
            progress.add_training(peer.client, round_, done, up=wire.size(content), down=wire.size(requests[node]))
        return Uploads(uploads)

    def _measure(self, progress: Progress, peers: Sequence[Peer], round_: int) -> None:
        """Score the models of the clients there: at the start and the end on every test sample, in between on some.

        Own tasks are scored after every round, the others' at the start and at the milestones.
        """
        rounds, evaluation = self.settings.rounds, self.settings.evaluation
        others = round_ == 0 or round_ in milestones(rounds, evaluation.milestones, planned=self.settings.horizon)
        count = 0 if round_ in (0, rounds) else evaluation.samples_per_task
        request: dict[str, int | float | str] = {"round": round_, "run": self._run, "others": others, "count": count}
        there = participation.present(self.settings, round_)
        by_node = {peer.node: peer for peer in peers if peer.client in there}
        scores: dict[int, dict[str, tuple[float, ...]]] = {}
        for node, content in self._exchange("evaluate", {node: wire.pack(request) for node in by_node}, round_=round_):
            peer = by_node[node]
            self._check_origin(peer, content, round_)
            scores[peer.client] = wire.scores(content, sender=peer.title)
            progress.evaluation_seconds += wire.metrics(content, sender=peer.title).get("seconds", 0.0)
        measurement = Measurement.of(round_, scores)
        if round_ == rounds:
            self.folder.write_scores(scores)
        progress.history.append(measurement)
        self.folder.event("measured", **progress.headline(measurement))
        self.folder.write_rounds(progress.rows())

    def _checkpoint(self, progress: Progress, uploads: Uploads, state: Mapping[str, Tensor]) -> None:
        now = time.perf_counter()
        progress.seconds += now - self._started
        self._started = now
        tensors = {f"state|{name}": tensor for name, tensor in state.items()}
        for client, upload in uploads.items():
            tensors |= {f"{client}|{name}": tensor for name, tensor in upload.tensors.items()}
        about = {client: [each.architecture, each.samples, each.round] for client, each in uploads.items()}
        self.folder.save_checkpoint(progress.round, {**progress.as_json(), "uploads": about}, tensors)
        self.folder.event("checkpoint", round=progress.round)

    def _load(self) -> tuple[Progress, Uploads, dict[str, Tensor]]:
        checkpoint = self.folder.latest_checkpoint()
        tasks = {client.id: list(client.tasks) for client in self.settings.scenario.clients}
        if checkpoint is None:
            return Progress(tasks), Uploads([]), {}
        table, tensors = checkpoint
        self.folder.event("resumed", round=table["round"])
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            owner, _, name = key.partition("|")
            parts.setdefault(owner, {})[name] = tensor
        uploads = [
            Upload(int(client), architecture, parts.get(client, {}), samples, round_)
            for client, (architecture, samples, round_) in table.pop("uploads").items()
        ]
        return Progress.from_json(tasks, table), Uploads(uploads), parts.get("state", {})

    # ---- messages ------------------------------------------------------------------------------------------------

    def _exchange(self, kind: str, contents: Mapping[int, RecordDict], *, round_: int) -> list[tuple[int, RecordDict]]:
        """Send one message to each node and return all contents; replies are matched by the message they answer."""
        messages = [Message(content, node, kind, group_id=str(round_)) for node, content in contents.items()]
        replies = self.grid.send_and_receive(messages)
        answered = []
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.has_error():
                raise RunError(f"node {node} failed in {kind!r}, round {round_}: {reply.error.reason}")
            answered.append((node, reply.content))
        if missing := set(contents) - {node for node, _ in answered}:
            raise RunError(f"{len(missing)} of {len(contents)} nodes did not answer {kind!r} in round {round_}")
        return answered

    def _check_origin(self, peer: Peer, content: RecordDict, round_: int) -> None:
        said = wire.meta(content, {"client": int, "round": int, "run": str}, sender=peer.title)
        wanted = {"client": peer.client, "round": round_, "run": self._run}
        if said != wanted:
            raise WireError(f"{peer.title} answered for {said}; expected {wanted}")


def _among(everyone: Sequence[int], uploads: Uploads, matrix: Tensor) -> Tensor:
    """A matrix between the clients that uploaded as one between all clients, NaN where there is no upload."""
    if len(uploads) == len(everyone):
        return matrix
    places = torch.tensor([everyone.index(client) for client in uploads])
    whole = torch.full((len(everyone), len(everyone)), torch.nan, dtype=matrix.dtype)
    whole[places[:, None], places] = matrix
    return whole


def _introduction(node: int, content: RecordDict) -> Peer:
    sender = f"node {node}"
    expected = {"client": int, "architecture": str, "model": str, "alignment": str, "upload": str}
    said = wire.meta(content, expected, sender=sender)
    shapes = wire.shapes_from_json(said["upload"], sender=sender)
    values = 0
    for shape in shapes.values():
        count = 1
        for length in shape:
            count *= length
        values += count
    if values > _MAX_VALUES:
        raise WireError(f"{sender} announces uploads of {values} values; the limit is {_MAX_VALUES}")
    return Peer(said["client"], node, said["architecture"], said["alignment"], shapes)


def _check_shared_shapes(peers: Sequence[Peer]) -> None:
    """Tensors that clients may combine must have one shape: shared ones everywhere, others within an architecture."""
    seen: dict[tuple[str, str], tuple[str, tuple[int, ...]]] = {}
    for peer in peers:
        for name, shape in peer.shapes.items():
            scope = peer.architecture if name.startswith("layer.") else ""
            other, known = seen.setdefault((scope, name), (peer.title, shape))
            if known != shape:
                raise RunError(f"{peer.title} has {name!r} with shape {shape}, {other} with {known}; ranks must agree")


def _check_alignment(peers: Sequence[Peer]) -> None:
    """P and Q can be mixed only between clients whose frozen bases belong together."""
    for peer in peers[1:]:
        if peer.alignment != peers[0].alignment:
            raise RunError(
                f"{peer.title} uses the alignment {peer.alignment or 'none'}, {peers[0].title} "
                f"{peers[0].alignment or 'none'}; make one with fedmosaic align and give its folder to all sites as "
                "adapter.alignment"
            )
