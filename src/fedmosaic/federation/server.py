"""The server's round: aggregate, send, collect, validate, measure, checkpoint; no method and no engine by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import torch
from flwr.app import RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.evaluation import Measurement, milestones
from fedmosaic.federation import participation, wire
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.attendance import Attendance
from fedmosaic.federation.callbacks import (
    Callback,
    Checkpoint,
    Measured,
    Relevance,
    RoundEnd,
    RoundStart,
    RunStart,
    Warned,
)
from fedmosaic.federation.checkpoints import Checkpoints, Standing
from fedmosaic.federation.exchange import Exchange
from fedmosaic.federation.history import RunHistory
from fedmosaic.federation.peers import Peer
from fedmosaic.federation.post import Clock, Post
from fedmosaic.federation.reply_checks import ReplyChecks, ScoresReply
from fedmosaic.federation.results import ExchangeCosts, ExchangedScores, Missing
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.federation.upload_store import UploadStore
from fedmosaic.methods.base import Aggregation
from fedmosaic.methods.uploads import Upload, Uploads


class Server:
    """Runs all rounds of one run.

    Args:
        grid: the engine.
        settings: the run's settings.
        folder: the run folder; it decides where to go on.
        callbacks: hear what happens.
        assets: opens what the server reads.
        wait: seconds that it waits at its start for clients that are not there.
        clock: measures deadlines.
    """

    def __init__(
        self,
        grid: Grid,
        settings: RunSettings,
        folder: RunFolder,
        callbacks: Callback | None = None,
        assets: AssetsOf = Assets,
        wait: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.callbacks = callbacks or Callback()
        self._uploads = UploadStore(folder.path / "uploads")
        self._tasks = settings.scenario.tasks_by_client
        self._checkpoints = Checkpoints(folder, self._uploads, self._tasks)
        self.context = ServerContext(assets(settings), scratch=folder.path / "scratch")
        self._checks = ReplyChecks(settings, self.context.method)
        self._run = settings.digest
        self._wait = wait
        self._schedule = participation.schedule(settings)
        self._started = time.perf_counter()
        rules = settings.participation
        post = Post(grid, deadline=rules.deadline, clock=clock)
        self._attendance = Attendance(post, settings, self.context.method, self._warn, self.context.announced)
        self._exchange = Exchange(post, self._attendance.peers, rules.min_clients, self._miss)
        self._progress: RunHistory | None = None

    def run(self) -> RunHistory:
        """Run or go on to the last round and return the whole history."""
        self._attendance.gather(self._wait)
        progress, uploads, state = self._load()
        self._progress = progress
        if progress.round == 0 and not progress.history:
            self._measure(progress, 0)
        ended = 0 < progress.round == progress.until
        if ended and (progress.until < self.settings.rounds or self._checkpoints.lost_scores(progress)):
            progress.forget_measurement()  # measured as the last round, which it is no more, or whose scores are lost
            self._measure(progress, progress.round)
        progress.until = self.settings.rounds
        for round_ in range(progress.round + 1, self.settings.rounds + 1):
            self.callbacks.on_round_start(RoundStart(round_, self.settings.rounds))
            self._attendance.look_again(self._exchange.lost)
            uploads = uploads.since(participation.oldest_that_counts(self.settings, round_))
            now = uploads.towards(self._schedule[round_])
            aggregation, relevance = self._aggregate(progress, round_, now, state)
            trained, scored = self._train(progress, round_, aggregation)
            uploads = uploads.updated(trained)
            state = aggregation.state
            progress.round = round_
            self._count_time(progress)
            account = progress.privacy_account(self.context.method.guarantee)
            self.callbacks.on_round_end(RoundEnd(round_, progress.costs, account, relevance))
            self._measure(progress, round_, scored)
            self._checkpoint(progress, uploads, state)
        if self.settings.final_exchange:
            progress.exchanged = self._last_exchange(progress, uploads, state)
        self.context.clear_scratch()
        return progress

    # ---- the parts of a round ------------------------------------------------------------------------------------

    def _aggregate(
        self,
        progress: RunHistory,
        round_: int,
        uploads: Uploads,
        state: Mapping[str, Tensor],
    ) -> tuple[Aggregation, Relevance | None]:
        if not uploads:
            return Aggregation(downloads={}), None
        aggregation, flops = self._downloads(round_, self._schedule[round_], uploads, state)
        progress.flops += flops
        return aggregation, self._relevance(round_ - 1, uploads, aggregation)

    def _downloads(
        self, round_: int, receiving: Collection[int], uploads: Uploads, state: Mapping[str, Tensor]
    ) -> tuple[Aggregation, float]:
        """Let the method make a round's downloads, and those of clients without an upload; return their FLOPs, too."""
        before = self.context.spent.flops
        aggregation = self.context.aggregate(uploads, state, round_)
        newcomers = {
            client: self.context.initial_download(peer.architecture, peer.shapes, uploads)
            for client, peer in self._attendance.peers.items()
            if client in receiving and client not in uploads
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

    def _train(
        self, progress: RunHistory, round_: int, aggregation: Aggregation
    ) -> tuple[Uploads, dict[int, ScoresReply]]:
        """Have the round's clients train, and score the models that they have then: one message does both."""
        sent: dict[int, int] = {}
        asked = self._to_score(round_)
        sending = self._sending(progress, aggregation, round_, sent, **asked)
        uploads, scores = [], {}
        read = partial(self._checks.train_reply, round_=round_, others=bool(asked["others"]), count=asked["count"])
        for peer, reply in self._exchange.ask("train", self._schedule[round_], sending, read, round_=round_):
            upload = Upload(peer.client, peer.architecture, reply.tensors, reply.samples, round_)
            uploads.append(self._uploads.store(upload))
            progress.add_training(peer.client, round_, reply.done, up=reply.bytes, down=sent[peer.client])
            scores[peer.client] = reply.scores
        return Uploads(uploads), scores

    def _sending(
        self,
        progress: RunHistory,
        aggregation: Aggregation,
        round_: int,
        sent: dict[int, int],
        *,
        after: int = 0,
        **more: int,
    ) -> Callable[[Peer], RecordDict]:
        """Return what makes a client's download, and notes its bytes by client in ``sent``.

        With it go ``more`` and the last round, before this one or up to ``after``, whose training by this client has
        counted.
        """

        def content(peer: Peer) -> RecordDict:
            known = progress.last_trained(peer.client, before=after + 1 if after else round_)
            about: dict[str, int | float | str] = {"round": round_, "run": self._run, "known": known, **more}
            packed = wire.pack(about, aggregation.downloads.get(peer.client), agreed=peer.downloads)
            sent[peer.client] = wire.size(packed)
            return packed

        return content

    def _to_score(self, round_: int) -> Mapping[str, int]:
        """Say what is scored after a round: at the start and the end as a rule every test sample, in between some.

        Own tasks are scored after every round, the others' at the start and at the milestones.
        """
        rounds, evaluation = self.settings.rounds, self.settings.evaluation
        others = round_ == 0 or round_ in milestones(rounds, evaluation.milestones, planned=self.settings.horizon)
        ends = round_ in (0, rounds)
        return {"others": others, "count": evaluation.final_samples_per_task if ends else evaluation.samples_per_task}

    def _measure(self, progress: RunHistory, round_: int, scored: Mapping[int, ScoresReply] | None = None) -> None:
        """Gather the scores of the clients there; ask those that have not ``scored`` with their training.

        A client that is missing has no score of this round, and means are over the others.
        """
        asked = self._to_score(round_)
        request: dict[str, int | float | str] = {"round": round_, "run": self._run, **asked}

        def content(peer: Peer) -> RecordDict:
            return wire.pack({**request, "known": progress.last_trained(peer.client, before=round_ + 1)})

        there = participation.present(self.settings, round_)
        replies = dict(scored or {})
        untrained = [client for client in there if client not in replies]
        others, count = bool(asked["others"]), asked["count"]
        replies |= self._scores(
            "evaluate", untrained, content, round_, answered=len(replies), others=others, count=count
        )
        scores = {client: replies[client].scores for client in there if client in replies}
        progress.evaluation_seconds += sum(reply.seconds for reply in replies.values())
        measurement = Measurement.of(round_, scores)
        if round_ == 0:
            self.folder.write_scores(scores, when="start")
        if round_ == self.settings.rounds:
            self.folder.write_scores(scores)
        progress.history.append(measurement)
        self.callbacks.on_measure(Measured.from_scores(measurement, progress.tasks))
        self.folder.write_rounds(progress.rows())

    def _last_exchange(self, progress: RunHistory, uploads: Uploads, state: Mapping[str, Tensor]) -> ExchangedScores:
        """Send what the next round would begin with, and score what the clients answer with it, untrained.

        All clients that are there at the end receive something, also those that were not drawn for the last round.
        """
        if not self.context.method.exchange_changes_answers:
            return progress.exchanged_scores(self.folder.scores(), None)
        rounds = self.settings.rounds
        there = participation.present(self.settings, rounds)
        counting = uploads.since(participation.oldest_that_counts(self.settings, rounds + 1)).towards(there)
        aggregation, flops = self._downloads(rounds + 1, there, counting, state)
        sent: dict[int, int] = {}
        sending = self._sending(progress, aggregation, rounds, sent, after=rounds)
        count = self.settings.evaluation.final_samples_per_task
        replies = self._scores("evaluate.exchange", there, sending, rounds, count=count)
        progress.evaluation_seconds += sum(reply.seconds for reply in replies.values())
        scores = {client: reply.scores for client, reply in replies.items()}
        self._count_time(progress)
        total = sum(sent.values())
        costs = ExchangeCosts(flops, len(sent), total / len(sent), total)
        self.folder.write_scores(scores, when="exchanged")
        return progress.exchanged_scores(scores, costs)

    def _scores(
        self,
        kind: str,
        clients: Collection[int],
        content: Callable[[Peer], RecordDict],
        round_: int,
        *,
        answered: int = 0,
        others: bool = True,
        count: int,
    ) -> dict[int, ScoresReply]:
        """Return the scores of single samples by some clients, and the seconds that they took."""
        read = partial(self._checks.scores_reply, round_=round_, others=others, count=count)
        replies = self._exchange.ask(kind, clients, content, read, round_=round_, answered=answered)
        return {peer.client: reply for peer, reply in replies}

    def _checkpoint(self, progress: RunHistory, uploads: Uploads, state: Mapping[str, Tensor]) -> None:
        self._count_time(progress)
        self._checkpoints.save(Standing(progress, uploads, state))
        self.callbacks.on_checkpoint(Checkpoint(progress.round))

    def _count_time(self, progress: RunHistory) -> None:
        now = time.perf_counter()
        progress.seconds += now - self._started
        self._started = now

    def _load(self) -> tuple[RunHistory, Uploads, Mapping[str, Tensor]]:
        standing, lost = self._checkpoints.last_whole(self._lacking)
        begins = standing is None
        standing = standing or Standing(RunHistory(self._tasks))
        progress = standing.progress
        self.callbacks.on_run_start(RunStart(self.settings, self.folder.path, None if begins else progress.round))
        for text in lost:
            self._warn(text)
        return progress, standing.uploads, standing.state

    def _lacking(self, standing: Standing) -> list[str]:
        """Ask all clients whether they have what it takes to go on from there; who has not stops only who needs all."""
        progress, lacking = standing.progress, []

        def content(peer: Peer) -> RecordDict:
            known = progress.last_trained(peer.client, before=progress.round + 1)
            return wire.pack({"round": progress.round, "run": self._run, "known": known})

        read = partial(self._checks.ready_reply, round_=progress.round)
        for peer, ready in self._exchange.ask(
            "query.ready", list(self._attendance.peers), content, read, round_=progress.round
        ):
            if not ready:
                lacking.append(f"{peer.title} lacks its state, or has a damaged one")
        if not self.settings.participation.min_clients:
            return lacking
        for text in lacking:
            self._warn(f"{text}; the run goes on without it")
        return []

    # ---- what is told --------------------------------------------------------------------------------------------

    def _miss(self, missing: Missing) -> None:
        if self._progress is not None:  # else the run has not begun or gone on yet
            self._progress.missing.append(missing)
        self.callbacks.on_missing(missing)

    def _warn(self, text: str) -> None:
        self.callbacks.on_warning(Warned(text))


def _among(everyone: Sequence[int], uploads: Uploads, matrix: Tensor) -> Tensor:
    """A matrix between the clients that uploaded as one between all clients, NaN where there is no upload."""
    if len(uploads) == len(everyone):
        return matrix
    places = torch.tensor([everyone.index(client) for client in uploads])
    whole = torch.full((len(everyone), len(everyone)), torch.nan, dtype=matrix.dtype)
    whole[places[:, None], places] = matrix
    return whole
