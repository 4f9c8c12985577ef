"""FedMosaic (arXiv 2506.11024): relevance-guided aggregation (RELA) of dimension-invariant adapters (Co-LoRA).

Client k, with local slot L_k (trained), received slot G_k (frozen) and a gate b = sigmoid(beta) per adapted linear:

    h = W x + (1 - b) L_k(x) + b G_k(x)
    s_k <- (1 - a) s_k + a * sanitise(sketch of the probe's gradient on the client's samples)

Server, from the uploads of the round:

    S_ij = cos(s_i, s_j),   w_ij = softmax_{j != i}(S_ij / tau)
    G_i  = sum_{j != i} w_ij L_j      P and Q of Co-LoRA over all clients (of a tower adapter: all with the tower);
                                      A and B of the other layers, with the softmax taken again, over the clients of
                                      the same architecture

Where a client has no peer to learn from, G_i is a copy of its own L_i; so it is in the first round.
Facts of the paper and of its release: docs/method-facts.md#relevance.
Uploads are each client's last one. A newcomer, who has no sketch yet, receives the others' uniform mean instead.

Ablations: ``relevance = "uniform"`` (no sketch, w_ij = 1 / (N - 1)), ``colora = false`` (conventional LoRA everywhere,
so that only clients of one architecture learn from each other), ``gate = false`` (b = 1/2, fixed).

Beyond the paper: with ``restart`` = rho > 0 a round starts from L_k <- (1 - rho) L_k + rho G_k, so that local slots
stay close to each other instead of diverging. With uniform weights and rho = (N - 1) / N it is FedAvg's start.
The gate hardly moves from 1/2, where L_k dominates G_k also on the others' tasks. So answers can be given with a
larger ``share`` of G_k, or with ``answers = "familiarity"`` by G_k alone where the client has trained on nothing like
the question; training then mixes with b = 1/2. With ``remembered`` the server keeps what clients uploaded when they
last learned something else (:mod:`fedmosaic.methods.upload_memory`); it counts as uploads of further clients j.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Adapter, Slot, SlotWeights, TensorShapes
from fedmosaic.config import RunSettings
from fedmosaic.data.sample import Sample
from fedmosaic.methods.base import Aggregation, Method, ServerState
from fedmosaic.methods.familiarity import familiar_questions, remember_questions
from fedmosaic.methods.instance_weights import InstanceWeighted
from fedmosaic.methods.mixtures import (
    MOST_CLIENTS_IN_A_MATRIX,
    InMemoryMixtures,
    Mixtures,
    too_large_for_memory,
)
from fedmosaic.methods.restart import moved_towards
from fedmosaic.methods.task_sketch import Count, Positive, SketchSettings, TaskSketch, check_budget
from fedmosaic.methods.upload_memory import MemorySettings, UploadMemory
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.models import BaseModel
from fedmosaic.relevance import GUARANTEES, cosine_similarity, relevance_weights
from fedmosaic.relevance.weights import unit_rows
from fedmosaic.training import Budget, Client


@dataclass(frozen=True, kw_only=True)
class FedMosaicSettings(MemorySettings, SketchSettings):
    """Values of the paper where it has them and they hold here (docs/method-facts.md#relevance)."""

    temperature: Positive = 0.5
    """tau of the relevance softmax."""
    peers: Annotated[int, Field(ge=0)] = 0
    """The number of most similar others that a client learns from; 0: all."""
    relevance: Literal["rela", "uniform"] = "rela"
    """Weights from sketches, or equal ones without sketches."""
    colora: bool = True
    """Whether block-end layers carry Co-LoRA, whose P and Q are shared between architectures."""
    gate: bool = True
    """Whether a gate is learned; else both slots have weight 1/2."""
    restart: Annotated[float, Field(ge=0, le=1)] = 0.0
    """rho: how far the local slot starts a round from what was received; 0 is the paper's."""
    share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Weight of the received slot in answers, when training has mixed both in halves; None: as in training."""
    answers: Literal["gate", "familiarity"] = "gate"
    """Whether all questions are answered alike, or unfamiliar ones with the received slot alone."""
    known_per_round: Count = 16
    """Of ``familiarity``: how many questions of a round's batches are remembered, as embeddings on the client."""
    known: Annotated[int, Field(ge=2)] = 256
    """Of ``familiarity``: how many are kept at most."""
    novelty_quantile: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Of ``familiarity``: share of the known questions that may be called unfamiliar."""


class FedMosaic(Method[FedMosaicSettings]):
    """RELA + Co-LoRA.

    Args:
        settings: of the method.
    """

    name = "fedmosaic"
    title = "FedMosaic"
    slots = (Slot("local", communicated=True), Slot("personal_global", communicated=False))
    answers_with: SlotWeights = "gate"
    colora = True
    across_architectures = True
    robust = True
    heterogeneity = "tasks, architectures and tokenizers"
    Settings = FedMosaicSettings

    def __init__(self, settings: FedMosaicSettings) -> None:
        super().__init__(settings)
        self.colora = settings.colora
        self._gated = settings.gate and settings.answers == "gate" and settings.share is None
        self._share = 0.5 if settings.share is None else settings.share
        self._trains_with: SlotWeights = "gate" if self._gated else _shared_by(0.5)
        self.answers_with = "gate" if self._gated else _shared_by(self._share)

    @property
    def answers_by_mixing(self) -> bool:
        """Only where all questions are answered alike."""
        return self.settings.answers == "gate"

    @property
    def needed(self) -> Collection[str]:
        """Sketches, where relevance is made of them. See :meth:`Method.needed`."""
        return ("sketch",) if self._sketches else ()

    @property
    def guarantee(self) -> str:
        """What the sketches' sanitising promises; without sketches there is nothing to promise."""
        return GUARANTEES[self.settings.sanitise] if self._sketches else ""

    def check(self, settings: RunSettings) -> None:
        """Refuse a budget that ends before the run, and a memory without what it needs. See :meth:`Method.check`."""
        self.settings.check_memory(sketches=self._sketches, rule=settings.aggregation.rule)
        if self._sketches:
            check_budget(self.settings, settings)

    def receive(self, client: Client, download: Tensors) -> None:
        """Load what was received into G, a copy of L where nothing was; then move L towards G by ``restart``.

        See :meth:`Method.receive`.
        """
        own = client.snapshot("local")
        received = {**own, **download}
        client.adapter.load_slot("personal_global", received)
        client.adapter.load_slot("local", moved_towards(received, own, self.settings.restart))

    def receive_final(self, client: Client, download: Tensors) -> None:
        """Load what was received into G; L stays what training has made it. See :meth:`Method.receive_final`."""
        client.adapter.load_slot("personal_global", {**client.snapshot("local"), **download})

    @property
    def exchange_changes_answers(self) -> bool:
        """Whether G has a part in any answer. See :meth:`Method.exchange_changes_answers`."""
        return self._gated or self._share > 0 or self.settings.answers == "familiarity"

    def train(self, client: Client, budget: Budget) -> None:
        """Train L and the gate; then sketch the probe's gradient, and remember questions for ``familiarity``.

        See :meth:`Method.train`.
        """
        seen: list[Sequence[Sample]] = []
        for batch in client.batches(budget):
            client.step(batch, slots=("local",), mix=self._trains_with, gate=self._gated)
            seen.append(batch.samples)
        if self._sketches:
            self._sketch.update(client, seen)
        if self.settings.answers == "familiarity":
            questions = [sample for batch in seen for sample in batch]
            own = self.settings
            remember_questions(client, client, questions, per_round=own.known_per_round, most=own.known)

    @contextmanager
    def answering(self, client: Client) -> Iterator[BaseModel]:
        """The base model with both slots, or for unfamiliar questions with the received one alone.

        See :meth:`Method.answering`.
        """
        if "known" in client.memory:
            yield InstanceWeighted(client, lambda samples: self._by_familiarity(client, samples))
        else:
            with super().answering(client) as model:
                yield model

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The local slot and the running sketch. See :meth:`Method.upload`."""
        sketch = {"sketch": client.memory["sketch"]} if self._sketches else {}
        return {**client.snapshot("local"), **sketch}

    def upload_shapes(self, adapter: Adapter) -> TensorShapes:
        """The local slot's, and the sketch's. See :meth:`Method.upload_shapes`."""
        if not self._sketches:
            return adapter.schema("local")
        size = self.settings.sketch_size if self.settings.sketch == "projection" else self._sketch.size
        return {**adapter.schema("local"), "sketch": (size,)}

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Weigh the others' adapters for each client by relevance, and send the weighted sums.

        See :meth:`Method.aggregate`.
        """
        if self.settings.remembered:
            memory = UploadMemory(self.settings, ema=self.settings.ema)
            return memory.aggregated(uploads, state, self._aggregate)
        return self._aggregate(uploads, state)

    def _aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        if too_large_for_memory(uploads):
            return self._aggregate_through_disk(uploads, state)
        similarity, downloads = self.similarity(uploads), InMemoryMixtures(uploads.receivers)
        index = {client: row for row, client in enumerate(uploads)}
        for clients, names in uploads.comparable(across_architectures=True):
            if len(clients) > 1:
                rows = [index[client] for client in clients]
                weights = self._weights(similarity[rows][:, rows])
                downloads.add(uploads, names, clients, weights.__getitem__, most=self.settings.peers)
        return Aggregation(downloads=downloads, relevance=self._weights(similarity), similarity=similarity)

    def _aggregate_through_disk(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """The same for many or large uploads, a slab of columns at a time."""
        downloads = Mixtures(uploads.receivers, state.scratch)
        for clients, names in uploads.comparable(across_architectures=True):
            if len(clients) > 1:
                unit = unit_rows(uploads.stack("sketch", clients)) if self._sketches else torch.ones(len(clients), 1)
                downloads.add(uploads, names, clients, partial(self._row_weights, unit), most=self.settings.peers)
        if len(uploads) > MOST_CLIENTS_IN_A_MATRIX:
            return Aggregation(downloads=downloads)
        similarity = self.similarity(uploads)
        return Aggregation(downloads=downloads, relevance=self._weights(similarity), similarity=similarity)

    def _row_weights(self, unit: Tensor, rows: Tensor) -> Tensor:
        """Return (M, N) relevance of N clients' unit sketches for those in M rows of them."""
        cosines = (unit[rows] @ unit.T).clamp_(-1.0, 1.0)
        return relevance_weights(cosines, temperature=self.settings.temperature, most=self.settings.peers, itself=rows)

    def similarity(self, uploads: Uploads) -> Tensor:
        """Return the similarity of the clients' tasks; all ones without sketches.

        Args:
            uploads: of the clients.

        Returns:
            (N, N) in the order of the uploads.
        """
        return cosine_similarity(uploads.stack("sketch")) if self._sketches else torch.ones(len(uploads), len(uploads))

    def _weights(self, similarity: Tensor) -> Tensor:
        return relevance_weights(similarity, temperature=self.settings.temperature, most=self.settings.peers)

    # ---- familiarity ---------------------------------------------------------------------------------------------

    def _by_familiarity(self, client: Client, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the slots' weights, (B,) each."""
        own = familiar_questions(client, client, samples, novelty_quantile=self.settings.novelty_quantile)
        local = (1 - self._share) * own.to(client.base.module.dtype)
        return {"local": local, "personal_global": 1 - local}

    # ---- the sketch ----------------------------------------------------------------------------------------------

    @property
    def _sketches(self) -> bool:
        return self.settings.relevance == "rela"

    @cached_property
    def _sketch(self) -> TaskSketch:
        run, pool = self.resources.settings, self.resources.pool
        model = pool.probe(run.scenario.probe or pool.smallest(run.scenario.models))
        return TaskSketch(self.settings, model, seed=run.seed)


def _shared_by(received: float) -> dict[str, float]:
    return {"local": 1 - received, "personal_global": received}
