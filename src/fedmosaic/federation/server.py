"""The server's round: aggregate, send, collect, validate, measure, checkpoint; no method and no engine by name."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.errors import RunError
from fedmosaic.evaluation import Measurement, milestones
from fedmosaic.federation import participation, wire
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.callbacks import Callback, Checkpoint, Measured, Relevance, RoundEnd, RoundStart, RunStart
from fedmosaic.federation.history import RunHistory
from fedmosaic.federation.peers import Peer, check_fit, introduction
from fedmosaic.federation.reply_checks import ReplyChecks
from fedmosaic.federation.results import ExchangeCosts, ExchangedScores
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.federation.upload_store import UploadStore
from fedmosaic.methods.base import Aggregation, Upload, Uploads

_SECONDS_BETWEEN_POLLS = 0.5


class Server:
    """Runs all rounds of one run.

    Args:
        grid: the engine.
        settings: the run's settings.
        folder: the run folder; it decides where to go on.
        callbacks: hear what happens.
        assets: opens what the server reads.
    """

    def __init__(
        self,
        grid: Grid,
        settings: RunSettings,
        folder: RunFolder,
        callbacks: Callback | None = None,
        assets: AssetsOf = Assets,
    ) -> None:
        self.grid = grid
        self.settings = settings
        self.folder = folder
        self.callbacks = callbacks or Callback()
        self._uploads = UploadStore(folder.path / "uploads")
        self.context = ServerContext(assets(settings), scratch=folder.path / "scratch")
        self._checks = ReplyChecks(settings, self.context.method)
        self._run = settings.digest
        self._schedule = participation.schedule(settings)
        self._started = time.perf_counter()

    def run(self) -> RunHistory:
        """Run or go on to the last round and return the whole history."""
        peers = self._meet()
        progress, uploads, state = self._load()
        if progress.round == 0 and not progress.history:
            self._measure(progress, peers, 0)
        if 0 < progress.round == progress.until < self.settings.rounds:
            progress.history.pop()  # measured as the last round, which it is no more
            self._measure(progress, peers, progress.round)
        progress.until = self.settings.rounds
        for round_ in range(progress.round + 1, self.settings.rounds + 1):
            self.callbacks.on_round_start(RoundStart(round_, self.settings.rounds))
            training = [peer for peer in peers if peer.client in self._schedule[round_]]
            uploads = uploads.since(participation.oldest_that_counts(self.settings, round_))
            now = uploads.towards(self._schedule[round_])
            aggregation, relevance = self._aggregate(progress, round_, training, now, state)
            uploads = uploads.updated(self._train(progress, training, round_, aggregation))
            state = aggregation.state
            progress.round = round_
            self._count_time(progress)
            account = progress.privacy_account(self.context.method.guarantee)
            self.callbacks.on_round_end(RoundEnd(round_, progress.costs, account, relevance))
            self._measure(progress, peers, round_)
            self._checkpoint(progress, uploads, state)
        if self.settings.final_exchange:
            progress.exchanged = self._last_exchange(progress, peers, uploads, state)
        self.context.clear_scratch()
        return progress

    # ---- the parts of a round ------------------------------------------------------------------------------------

    def _meet(self) -> list[Peer]:
        """Ask every node who it is; all clients of the scenario must be there, each once."""
        nodes = list(self.grid.get_node_ids())
        replies = self._exchange("query.hello", ((node, wire.pack({"run": self._run})) for node in nodes), round_=0)
        peers = sorted((introduction(node, content) for node, content in replies), key=lambda peer: peer.client)
        present, wanted = [peer.client for peer in peers], sorted(c.id for c in self.settings.scenario.clients)
        if present != wanted:
            raise RunError(f"the scenario needs the clients {wanted}, but {present} answered")
        check_fit(peers)
        return peers

    def _aggregate(
        self,
        progress: RunHistory,
        round_: int,
        training: Sequence[Peer],
        uploads: Uploads,
        state: Mapping[str, Tensor],
    ) -> tuple[Aggregation, Relevance | None]:
        if not uploads:
            return Aggregation(downloads={}), None
        aggregation, flops = self._downloads(round_, training, uploads, state)
        progress.flops += flops
        return aggregation, self._relevance(round_ - 1, uploads, aggregation)

    def _downloads(
        self, round_: int, receiving: Sequence[Peer], uploads: Uploads, state: Mapping[str, Tensor]
    ) -> tuple[Aggregation, float]:
        """Let the method make a round's downloads, and those of clients without an upload; return their FLOPs, too."""
        before = self.context.spent.flops
        aggregation = self.context.aggregate(uploads, state, round_)
        newcomers = {
            peer.client: self.context.method.initial_download(peer.architecture, peer.shapes, uploads)
            for peer in receiving
            if peer.client not in uploads
        }
        return aggregation.with_downloads(newcomers), self.context.spent.flops - before

    def _relevance(self, round_: int, uploads: Uploads, aggregation: Aggregation) -> Relevance | None:
        """Keep the matrix of the uploads up to a round, which the next round's downloads are made from, if any."""
        if aggregation.relevance is None:
            return None
        everyone = participation.present(self.settings, 0)
        weights, similarity = (
            None if matrix is None else _among(everyone, uploads, matrix)
            for matrix in (aggregation.relevance, aggregation.similarity)
        )
        assert weights is not None
        self.folder.write_relevance(round_, weights, similarity)
        return Relevance(round_, weights, similarity)

    def _train(self, progress: RunHistory, peers: Sequence[Peer], round_: int, aggregation: Aggregation) -> Uploads:
        by_node = {peer.node: peer for peer in peers}
        sent: dict[int, int] = {}
        uploads = []
        for node, content in self._exchange("train", self._sending(aggregation, peers, round_, sent), round_=round_):
            peer = by_node[node]
            reply = self._checks.train_reply(peer, content, round_)
            upload = Upload(peer.client, peer.architecture, reply.tensors, reply.samples, round_)
            uploads.append(self._uploads.store(upload))
            progress.add_training(peer.client, round_, reply.done, up=reply.bytes, down=sent[node])
        return Uploads(uploads)

    def _sending(
        self, aggregation: Aggregation, peers: Sequence[Peer], round_: int, sent: dict[int, int]
    ) -> Iterator[tuple[int, RecordDict]]:
        """Yield each client's node and download, made when it is sent, and note its bytes by node in ``sent``."""
        for peer in peers:
            tensors = aggregation.downloads.get(peer.client)
            content = wire.pack({"round": round_, "run": self._run}, tensors, agreed=peer.downloads)
            sent[peer.node] = wire.size(content)
            yield peer.node, content

    def _measure(self, progress: RunHistory, peers: Sequence[Peer], round_: int) -> None:
        """Score the models of the clients there: at the start and the end on every test sample, in between on some.

        Own tasks are scored after every round, the others' at the start and at the milestones.
        """
        rounds, evaluation = self.settings.rounds, self.settings.evaluation
        others = round_ == 0 or round_ in milestones(rounds, evaluation.milestones, planned=self.settings.horizon)
        count = 0 if round_ in (0, rounds) else evaluation.samples_per_task
        request: dict[str, int | float | str] = {"round": round_, "run": self._run, "others": others, "count": count}
        there = participation.present(self.settings, round_)
        by_node = {peer.node: peer for peer in peers if peer.client in there}
        requests = ((node, wire.pack(request)) for node in by_node)
        scores, seconds = self._scores("evaluate", by_node, requests, round_, others=others)
        progress.evaluation_seconds += seconds
        measurement = Measurement.of(round_, scores)
        if round_ == rounds:
            self.folder.write_scores(scores)
        progress.history.append(measurement)
        self.callbacks.on_measure(Measured.from_scores(measurement, progress.tasks))
        self.folder.write_rounds(progress.rows())

    def _last_exchange(
        self, progress: RunHistory, peers: Sequence[Peer], uploads: Uploads, state: Mapping[str, Tensor]
    ) -> ExchangedScores:
        """Send what the next round would begin with, and score what the clients answer with it, untrained.

        All clients that are there at the end receive something, also those that were not drawn for the last round.
        """
        if not self.context.method.exchange_changes_answers:
            return progress.exchanged_scores(self.folder.scores(), None)
        rounds = self.settings.rounds
        there = participation.present(self.settings, rounds)
        by_node = {peer.node: peer for peer in peers if peer.client in there}
        counting = uploads.since(participation.oldest_that_counts(self.settings, rounds + 1)).towards(there)
        receiving = list(by_node.values())
        aggregation, flops = self._downloads(rounds + 1, receiving, counting, state)
        sent: dict[int, int] = {}
        requests = self._sending(aggregation, receiving, rounds, sent)
        scores, seconds = self._scores("evaluate.exchange", by_node, requests, rounds)
        progress.evaluation_seconds += seconds
        self._count_time(progress)
        total = sum(sent.values())
        costs = ExchangeCosts(flops, len(sent), total / len(sent), total)
        return progress.exchanged_scores(scores, costs)

    def _scores(
        self,
        kind: str,
        by_node: Mapping[int, Peer],
        requests: Iterable[tuple[int, RecordDict]],
        round_: int,
        *,
        others: bool = True,
    ) -> tuple[dict[int, Mapping[str, tuple[float, ...]]], float]:
        """Return the clients' scores of single samples, and the seconds that they took."""
        scores: dict[int, Mapping[str, tuple[float, ...]]] = {}
        seconds = 0.0
        for node, content in self._exchange(kind, requests, round_=round_):
            peer = by_node[node]
            reply = self._checks.scores_reply(peer, content, round_, others=others)
            scores[peer.client] = reply.scores
            seconds += reply.seconds
        return scores, seconds

    def _checkpoint(self, progress: RunHistory, uploads: Uploads, state: Mapping[str, Tensor]) -> None:
        self._count_time(progress)
        tensors = {f"state|{name}": tensor for name, tensor in state.items()}
        about = {client: [each.architecture, each.samples, each.round] for client, each in uploads.items()}
        self.folder.save_checkpoint(progress.round, {**progress.as_json(), "uploads": about}, tensors)
        self._uploads.keep_only(self.folder.needed_uploads())
        self.callbacks.on_checkpoint(Checkpoint(progress.round))

    def _count_time(self, progress: RunHistory) -> None:
        now = time.perf_counter()
        progress.seconds += now - self._started
        self._started = now

    def _load(self) -> tuple[RunHistory, Uploads, dict[str, Tensor]]:
        checkpoint = self.folder.latest_checkpoint()
        tasks = {client.id: list(client.tasks) for client in self.settings.scenario.clients}
        if checkpoint is None:
            self.callbacks.on_run_start(RunStart(self.settings, self.folder.path))
            return RunHistory(tasks), Uploads([]), {}
        table, tensors = checkpoint
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            owner, _, name = key.partition("|")
            parts.setdefault(owner, {})[name] = tensor
        older = not self._uploads.folder.exists()  # an earlier version kept them in the checkpoint
        uploads = [
            Upload(
                int(client),
                architecture,
                parts.get(client, {}) if older else self._uploads.load(int(client), round_),
                samples,
                round_,
            )
            for client, (architecture, samples, round_) in table.pop("uploads").items()
        ]
        progress = RunHistory.from_json(tasks, table, path=self.folder.checkpoints)
        self.callbacks.on_run_start(RunStart(self.settings, self.folder.path, progress.round))
        return progress, Uploads(uploads), parts.get("state", {})

    # ---- messages ------------------------------------------------------------------------------------------------

    def _exchange(
        self, kind: str, contents: Iterable[tuple[int, RecordDict]], *, round_: int
    ) -> Iterator[tuple[int, RecordDict]]:
        """Send one message to each node and yield the contents of the replies as they arrive.

        A message is made when it is sent and a reply is dropped when it was used, so however many clients there are,
        few messages are in memory. Replies are matched by the message they answer.

        Args:
            kind: of the messages.
            contents: (node, content).
            round_: the round they belong to.

        Raises:
            RunError: a node failed, or a message cannot be sent.
        """
        waiting: set[str] = set()
        for node, content in contents:
            sent = list(self.grid.push_messages([Message(content, node, kind, group_id=str(round_))]))
            if len(sent) != 1 or sent[0] is None:
                raise RunError(f"{kind!r} of round {round_} could not be sent to node {node}: is it too large?")
            waiting |= set(sent)
            yield from self._replies(waiting, kind, round_)
        while waiting:
            before = len(waiting)
            yield from self._replies(waiting, kind, round_)
            if len(waiting) == before:
                time.sleep(_SECONDS_BETWEEN_POLLS)

    def _replies(self, waiting: set[str], kind: str, round_: int) -> Iterator[tuple[int, RecordDict]]:
        """Yield what has arrived, and no longer wait for it."""
        for reply in self.grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            node = reply.metadata.src_node_id
            if reply.has_error():
                raise RunError(f"node {node} failed in {kind!r}, round {round_}: {reply.error.reason}")
            yield node, reply.content


def _among(everyone: Sequence[int], uploads: Uploads, matrix: Tensor) -> Tensor:
    """A matrix between the clients that uploaded as one between all clients, NaN where there is no upload."""
    if len(uploads) == len(everyone):
        return matrix
    places = torch.tensor([everyone.index(client) for client in uploads])
    whole = torch.full((len(everyone), len(everyone)), torch.nan, dtype=matrix.dtype)
    whole[places[:, None], places] = matrix
    return whole
