"""ProxyFL (Kalra et al., Nature Communications 2023, arXiv 2111.11343): a private model and a proxy that is exchanged.

With z_f the logits of the private model f, z_h those of the proxy h, and CE the answer loss, for every batch:

    f <- f - lr * grad [(1 - a) CE(z_f) + a KL(p_h || p_f)]     p = softmax(z); each is the other's teacher, whose
    h <- h - lr * grad [(1 - b) CE(z_h) + b KL(p_f || p_h)]     predictions get no gradient; both from the same passes

Only h is exchanged; f never leaves the client, which answers with it.

Original: models of any architecture, of which the proxies' is common; h is trained with DP-SGD; clients are peers, each
of which pushes its h to the next one on an exponential graph (PushSum); a = b = 0.5, Adam at 0.001. Adapted: f and h
are two LoRAs on the same base model, so that only clients of one architecture have a proxy in common; the server
averages h over them, what PushSum tends to; no noise is added. One optimiser step moves both, with moments of their own
and one clipping of their gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Slot
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, mean_within_architecture
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import Budget, Client, LocalBatch, cross_entropy
from fedmosaic.training.losses import distillation

_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class ProxyFlSettings(MethodSettings):
    """Values of the paper (docs/method-facts.md#proxyfl)."""

    alpha: _Share = 0.5
    """a: what the private model learns from the proxy, and not from the answers."""
    beta: _Share = 0.5
    """b: what the proxy learns from the private model."""


class ProxyFl(Method[ProxyFlSettings]):
    """A private LoRA and a communicated one that teach each other."""

    name = "proxyfl"
    title = "ProxyFL"
    slots = (Slot("proxy", communicated=True), Slot("private", communicated=False))
    answers_with = "private"
    robust = True
    heterogeneity = "tasks"
    Settings = ProxyFlSettings

    def train(self, client: Client, budget: Budget) -> None:
        """Train both slots on every batch. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.descend(partial(self._loss, client, batch), batch, slots=("private", "proxy"))

    def _loss(self, client: Client, batch: LocalBatch) -> Tensor:
        """Both losses' sum: neither has a gradient in the other's slot."""
        private, proxy = client.answers(batch, mix="private"), client.answers(batch, mix="proxy")
        total = None
        for student, teacher, share in ((private, proxy, self.settings.alpha), (proxy, private, self.settings.beta)):
            taught = distillation(teacher.logits, student.logits, temperature=1.0)
            loss = (1 - share) * cross_entropy(student) + share * taught
            total = loss if total is None else total + loss
        assert total is not None
        return total

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average the proxies within each architecture. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=mean_within_architecture(uploads))
