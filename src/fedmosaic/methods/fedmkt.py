"""FedMKT (Fan et al., COLING 2025, arXiv 2406.02224), adapted to vision-language models of equal rank.

Client k trains phi_k on its own samples; phi_k stays with it. Then it uploads its predictions on public samples x:

    p_k(x)  the top-k probabilities of each answer token,   l_k(x) = -log P_k(answer | x)

Server, with one model m per architecture (DualMinCE):

    j(x) = argmin_j l_j(x),   chosen: l_j(x)(x) < l_m(x)
    loss = 0.9 CE(answer) + 0.1 CE(p_j(x)) on the chosen, 0.9 CE(answer) on the others

Next round, client k does the same with p_m, l_m of its architecture's server model, before it trains on its own
samples; so what it learns is in the state that is evaluated.

Original: one large server model and small client models; tokens are paired by minimum edit distance. Here every
architecture has a server model, which starts as the clients do; tokens are paired by text and position
(:mod:`fedmosaic.training.token_alignment`); l is that of the whole answer, as means over the tokens of different
tokenizers do not compare. Public samples are others in each round, and both directions use those on which the
knowledge was made: the last round's, from the clients that trained in it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Adapter, Slot, TensorShapes
from fedmosaic.config import TrainingSettings
from fedmosaic.methods.base import Aggregation, Method, ServerState
from fedmosaic.methods.ensemble_distillation import DistillationSettings, by_architecture
from fedmosaic.methods.uploads import Tensors, Upload, Uploads
from fedmosaic.models import BaseModel
from fedmosaic.training import Budget, Client, ClientState, LocalBatch
from fedmosaic.training.distillation import TeacherPredictions, distil, distillation_targets
from fedmosaic.training.token_alignment import vocabulary_size
from fedmosaic.training.top_k_predictions import TopKPredictions, TopKSize

_RECEIVED = "server."


@dataclass(frozen=True, kw_only=True)
class FedMktSettings(DistillationSettings):
    """Values of the paper."""

    top: Annotated[int, Field(ge=1)] = 128
    """Number k of tokens whose probabilities are communicated, for each token of an answer."""
    answer_tokens: Annotated[int, Field(ge=1)] = 4
    """First tokens of each public answer that are communicated, end token included; mosaic40's have two."""
    server_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Of the server's models, which learn from the beginning, not only what clients' means lack."""
    lam: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Factor of the cross-entropy with the true answer; the rest is the selected distribution's."""

    def public_needed(self, training: TrainingSettings) -> int:
        """Return the number of public samples; none are held out. See :meth:`MethodSettings.public_needed`."""
        return self.public_count(training)


class FedMkt(Method[FedMktSettings]):
    """One local LoRA per client; knowledge on public samples is communicated both ways."""

    name = "fedmkt"
    title = "FedMKT"
    slots = (Slot("local", communicated=False),)
    answers_with = "local"
    heterogeneity = "architectures, tokenizers and adapters"
    Settings = FedMktSettings

    def size(self, training: TrainingSettings) -> TopKSize:
        """Return the size of the knowledge that is exchanged.

        Args:
            training: of the clients.
        """
        return TopKSize(self.settings.public_count(training), self.settings.answer_tokens, self.settings.top)

    @property
    def needed(self) -> Collection[str]:
        """The knowledge. See :meth:`Method.needed`."""
        return self.size(self.resources.settings.training).shapes().keys()

    def receive(self, client: Client, download: Tensors) -> None:
        """Keep the server's knowledge until training. See :meth:`Method.receive`."""
        client.memory.update({_RECEIVED + name: tensor for name, tensor in download.items()})

    @property
    def exchange_changes_answers(self) -> bool:
        """The server's knowledge acts through training only. See :meth:`Method.exchange_changes_answers`."""
        return False

    def train(self, client: Client, budget: Budget) -> None:
        """Learn from the server, then from own samples; then predict the public samples. See :meth:`Method.train`."""
        self._learn_from_server(client)
        for batch in client.batches(budget):
            client.step(batch, slots=("local",), mix="local")
        public = self._public(client, client.round)
        client.memory = {**self._knowledge(client, public).tensors(), "round": torch.tensor(client.round)}

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The knowledge, and no weights. See :meth:`Method.upload`."""
        return {name: client.memory[name] for name in self.upload_shapes(client.adapter)}

    def upload_shapes(self, adapter: Adapter) -> TensorShapes:
        """The knowledge's. See :meth:`Method.upload_shapes`."""
        return self.size(self.resources.settings.training).shapes()

    def download_shapes(self, adapter: Adapter) -> TensorShapes:
        """The knowledge's. See :meth:`Method.download_shapes`."""
        return self.upload_shapes(adapter)

    def check_upload(self, upload: Upload) -> None:
        """Refuse what the client's model cannot have predicted. See :meth:`Method.check_upload`."""
        run = self.resources
        model = run.pool.known(run.settings.scenario.client(upload.client).model)
        TopKPredictions.read(upload.tensors, vocabulary=vocabulary_size(model), sender=f"client {upload.client}")

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Let each server model learn from the best client for each public sample, and then predict the samples.

        See :meth:`Method.aggregate`.
        """
        groups = by_architecture(uploads)
        servers = {name: self._server_model(state, name, clients[0]) for name, clients in groups.items()}
        public = {name: self._public(server, state.round - 1) for name, server in servers.items()}
        sources = [
            Source(servers[name].base, public[name], self._best(servers[name].base, clients, uploads))
            for name, clients in by_architecture(uploads.since(state.round - 1)).items()
        ]
        downloads: dict[int, dict[str, Tensor]] = {}
        kept = dict(state.tensors)
        for name, clients in groups.items():
            server, batches = servers[name], public[name]
            before = self._knowledge(server, batches)
            self._learn(server, batches, select(sources, before.loss))
            after = self._knowledge(server, batches)
            downloads.update(dict.fromkeys(clients, after.tensors()))
            kept |= {f"{name}|{key}": tensor for key, tensor in server.state().tensors().items()}
        return Aggregation(downloads=downloads, state=kept)

    def _public(self, client: Client, round_: int) -> list[LocalBatch]:
        return client.public_batches(self.settings.public_count(client.settings.training), round_=round_)

    def _knowledge(self, client: Client, batches: Sequence[LocalBatch]) -> TopKPredictions:
        return TopKPredictions.of(client, batches, mix="local", size=self.size(client.settings.training))

    def _learn_from_server(self, client: Client) -> None:
        """Learn from the last download, if there was one, and drop it."""
        memory = client.memory
        received = {name.removeprefix(_RECEIVED): memory[name] for name in memory if name.startswith(_RECEIVED)}
        if received:
            batches = self._public(client, client.round - 1)
            knowledge = TopKPredictions.read(received, vocabulary=vocabulary_size(client.base), sender="the server")
            current = "round" in memory and int(memory["round"]) == client.round - 1
            own = memory["public.loss"] if current else self._knowledge(client, batches).loss
            self._learn(client, batches, select([Source(client.base, batches, knowledge)], own))

    def _learn(self, student: Client, batches: Sequence[LocalBatch], predictions: Sequence[TeacherPredictions]) -> None:
        """Train on the answers of public samples, and on the predictions of the selected sources."""
        lam = self.settings.lam
        targets = distillation_targets(predictions, student.base, batches, strength=1 - lam, teachers=1)
        distil(student, batches, [targets], slot="local", label=lam)

    def _server_model(self, state: ServerState, architecture: str, client: int) -> Client:
        """The server's model of an architecture, as the last round left it."""
        server = state.trainee(client, rate=self.settings.server_rate)
        prefix = f"{architecture}|"
        own = {name.removeprefix(prefix): tensor for name, tensor in state.tensors.items() if name.startswith(prefix)}
        if own:
            server.restore(ClientState.from_tensors(own))
        return server

    def _best(self, base: BaseModel, clients: Sequence[int], uploads: Uploads) -> TopKPredictions:
        """The best knowledge of one architecture's clients."""
        vocabulary = vocabulary_size(base)
        return TopKPredictions.best(
            [
                TopKPredictions.read(uploads[client].tensors, vocabulary=vocabulary, sender=f"client {client}")
                for client in clients
            ]
        )


@dataclass(frozen=True)
class Source:
    """Top-k predictions of public samples, with the base model that made them.

    Attributes:
        base: the base model.
        batches: the samples as it reads them.
        knowledge: the predictions.
    """

    base: BaseModel
    batches: Sequence[LocalBatch]
    knowledge: TopKPredictions


def select(sources: Sequence[Source], loss: Tensor) -> list[TeacherPredictions]:
    """Return the predictions of each source on the samples where it is best and better than the student (DualMinCE).

    Args:
        sources: of the same samples.
        loss: (samples,) the student's.

    Returns:
        One for each source.
    """
    lowest, best = torch.stack([source.knowledge.loss for source in sources]).min(0)
    predictions = []
    for index, source in enumerate(sources):
        chosen = (best == index) & (lowest < loss)
        probabilities = source.knowledge.dense(source.batches, vocabulary=vocabulary_size(source.base), chosen=chosen)
        predictions.append(TeacherPredictions(source.base, source.batches, probabilities))
    return predictions
