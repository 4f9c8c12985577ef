"""FedMosaic (arXiv 2506.11024): relevance-guided aggregation (RELA) of dimension-invariant adapters (Co-LoRA).

Client k, with local slot L_k (trained), received slot G_k (frozen) and a gate b = sigmoid(beta) per adapted linear:

    h = W x + (1 - b) L_k(x) + b G_k(x)
    s_k <- (1 - a) s_k + a * sanitise(sketch of the probe's gradient on the client's batches)

Server, from the uploads of the round:

    S_ij = cos(s_i, s_j),   w_ij = softmax_{j != i}(S_ij / tau)
    G_i  = sum_{j != i} w_ij L_j      P and Q of Co-LoRA over all clients; A and B of the other layers, with the
                                      softmax taken again, over the clients of the same architecture

Where a client has no peer to learn from, G_i is a copy of its own L_i; so it is in the first round (METHODS A.2-A.4).
Uploads are each client's last one. A newcomer, who has no sketch yet, receives the others' uniform mean instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import Adapter, Slot
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, Shapes, Tensors, Uploads
from fedmosaic.relevance import Probe, cosine_similarity, mix, relevance_weights
from fedmosaic.training import Budget, Client


@dataclass(frozen=True, kw_only=True)
class FedMosaicSettings(MethodSettings):
    """Values of the paper where it has them (METHODS A.3)."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    """tau of the relevance softmax."""
    peers: Annotated[int, Field(ge=0)] = 0
    """The number of most similar others that a client learns from; 0: all."""
    ema: Annotated[float, Field(gt=0, le=1)] = 0.5
    """a: weight of this round's sketch."""
    probe_every: Annotated[int, Field(ge=1)] = 10
    """The probe looks at the first batch of a round and every so many after it."""
    sketch_size: Annotated[int, Field(ge=1)] = 1024
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Largest norm of one sample's sketch."""
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05
    """Gaussian noise on the sum of clipped sketches, in units of ``clip``."""


class FedMosaic(Method[FedMosaicSettings]):
    """RELA + Co-LoRA."""

    name = "fedmosaic"
    title = "FedMosaic"
    slots = (Slot("local", travels=True), Slot("personal_global", travels=False))
    answers_with = "gate"
    colora = True
    Settings = FedMosaicSettings

    def receive(self, client: Client, download: Tensors) -> None:
        """G := what was received; what was not received is a copy of L."""
        own = client.snapshot("local")
        client.adapter.load_slot("personal_global", {**own, **download})

    def train(self, client: Client, budget: Budget) -> None:
        """Train L and the gate, and let the probe look at every m-th batch."""
        probe = self._probe(client)
        for step, batch in enumerate(client.batches(budget)):
            client.step(batch, slots=("local",), mix="gate", gate=True)
            if step % self.settings.probe_every == 0:
                probe.observe(batch.samples)
        client.meter.flops += probe.flops
        seen = probe.release()
        before = client.memory.get("sketch", seen)
        client.memory["sketch"] = torch.lerp(before, seen, self.settings.ema)

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The local slot and the running sketch."""
        return {**client.snapshot("local"), "sketch": client.memory["sketch"]}

    def upload_shapes(self, adapter: Adapter) -> Shapes:
        """The local slot's, and the sketch's."""
        return {**adapter.schema("local"), "sketch": (self.settings.sketch_size,)}

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Mix the others' adapters for each client by relevance."""
        similarity = cosine_similarity(uploads.stack("sketch"))
        index = {client: row for row, client in enumerate(uploads)}
        downloads: dict[int, dict[str, Tensor]] = {client: {} for client in uploads.receivers}
        for clients, names in uploads.comparable(across_architectures=True):
            receivers = [row for row, client in enumerate(clients) if client in downloads]
            if len(clients) == 1 or not receivers:
                continue
            rows = [index[client] for client in clients]
            weights = self._weights(similarity[rows][:, rows])[receivers]
            mixed = mix(weights, uploads.matrix(names, clients), most=self.settings.peers)
            for row, values in zip(receivers, mixed, strict=True):
                downloads[clients[row]] |= uploads.unflattened(values, names, clients[row])
        return Aggregation(downloads=downloads, relevance=self._weights(similarity), similarity=similarity)

    def _weights(self, similarity: Tensor) -> Tensor:
        return relevance_weights(similarity, temperature=self.settings.temperature, most=self.settings.peers)

    def _probe(self, client: Client) -> Probe:
        seed, scenario = client.settings.seed, client.settings.scenario
        return Probe(
            client.pool.probe(scenario.probe or client.pool.smallest(scenario.models)),
            size=self.settings.sketch_size,
            clip=self.settings.clip,
            noise_multiplier=self.settings.noise_multiplier,
            seed=seed,
            noise_seed=seeding.derive(seed, "sketch noise", client.id, client.round),
        )
