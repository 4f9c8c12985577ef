"""FedALT (Bian et al., AAAI 2026, arXiv 2503.11880): the own LoRA, the rest of the world's, and a mixer.

For every adapted linear, with L the client's individual LoRA, R the frozen rest-of-world (RoW) LoRA and g(x) in (0, 1)
from the token's own input:

    h = W x + (1 - g(x)) L(x) + g(x) R(x),   (1 - g, g) = softmax(G x)     L and G are trained, and kept between rounds
    A_R = mean_{j != k} A_j,   B_R = mean_{j != k} B_j                      of the others' individual LoRAs

G never leaves the client. Original: q and v of LLaMA 2 7B, r = 8, alpha = 32, 8 clients, 20 rounds of 5 epochs, AdamW
at 3e-4; G (2, in) starts Kaiming-uniform. Adapted: of G only the difference of its rows matters, w, and it is learned,
from 0, with g = sigmoid(w . x), the token gate; the others are those of the same architecture. Without any, and in the
first round, R adds nothing, as its B is 0.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.training import Budget, Client


class FedAlt(Method[MethodSettings]):
    """An individual LoRA and the mean of the others', mixed token by token."""

    name = "fedalt"
    title = "FedALT"
    slots = (Slot("individual", communicated=True), Slot("rest", communicated=False))
    answers_with = "gate"
    robust = True
    gate = "token"
    heterogeneity = "tasks"

    def receive(self, client: Client, download: Tensors) -> None:
        """Take up the rest of the world beside the individual LoRA. See :meth:`Method.receive`."""
        if download:
            client.adapter.load_slot("rest", download)

    def train(self, client: Client, budget: Budget) -> None:
        """Train the individual LoRA and the mixer. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.step(batch, slots=("individual",), mix="gate", gate=True)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Send each client the mean of the others of its architecture. See :meth:`Method.aggregate`."""
        downloads: dict[int, dict[str, Tensor]] = {client: {} for client in uploads.receivers}
        for clients, names in uploads.comparable(across_architectures=False):
            if len(clients) == 1:
                continue
            parts = partial(map, partial(uploads.stack, clients=clients), names)
            for name, means in zip(names, uploads.rule.others_averaged(len(clients), parts), strict=True):
                for client, mean in zip(clients, means, strict=True):
                    if client in downloads:
                        downloads[client][name] = mean
        return Aggregation(downloads=downloads)
