"""FedMosaic with a proxy model: what all clients share is a small model, and not a part of their own.

RELA gives every client the same small frozen model. Here it learns: every client k trains a LoRA a_k on it beside the
LoRA L_k of its own model, on its own samples, each with its own optimiser; all N proxies are one architecture:

    L_k <- L_k - lr * grad F_k(L_k)                  own model; stays on the client (``own = "private"``)
    a_k <- a  - lr_p * grad F_k(a)                   proxy model, from what was received
    a    = 1/N sum_j a_j                             server, over all clients whatever their own architectures

    answers with   log p_own(y | x; L_k) + w(x) log p_proxy(y | x; a_k)        over whole answers y

With ``own = "shared"`` own models are averaged within each architecture, too: L_k starts from that mean, as in FedAvg.
``weighting = "familiarity"``: w is small for questions that are like those the client has trained on, and large for
others (:mod:`fedmosaic.methods.familiarity`, with the embeddings of the frozen proxy).

Proxy models: Kalra et al., "Decentralized federated learning through proxy model sharing" (ProxyFL), Nature
Communications 2023. Differences: there both models distil into each other and the own one alone answers; here they
learn apart and answer together, as a product of experts (Hinton, 2002) between any two tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Adapter, Slot, TensorShapes, folded_in, of_proxy, parted
from fedmosaic.config import RunSettings
from fedmosaic.data.sample import Sample
from fedmosaic.methods.base import (
    Aggregation,
    Method,
    MethodSettings,
    ProxyModel,
    ServerState,
    mean_within_architecture,
)
from fedmosaic.methods.familiarity import familiar_questions, remember_questions
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.models import BaseModel, find_base_model
from fedmosaic.models.product_of_experts import ProductOfExperts
from fedmosaic.training import Budget, Client

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class FedMosaicProxySettings(MethodSettings):
    """No paper has values for it; docs/method-facts.md#proxy-model."""

    own: Literal["private", "shared"] = "private"
    """Whether nothing of a client's own model leaves it, or its adapter is averaged within its architecture."""
    proxy: str = ""
    """Base model of the proxy; empty: that of the scenario's probe, or the smallest of the clients' models."""
    proxy_steps: Positive = 1.0
    """Steps of the proxy model for each step of the own model: with 0.5 it takes half of ``training.steps``."""
    proxy_learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Of the proxy's adapter; None: ``training.learning_rate``."""
    weighting: Literal["fixed", "familiarity"] = "fixed"
    """Whether the proxy counts alike in all answers, or by how familiar the question is."""
    weight: Weight = 1.0
    """Of ``fixed``: w of the proxy's log-likelihood."""
    weight_familiar: Weight = 1.0
    """Of ``familiarity``: w where the client has trained on questions like this one."""
    weight_foreign: Weight = 2.0
    """Of ``familiarity``: w of all other questions."""
    known_per_round: Count = 32
    """Of ``familiarity``: how many questions of a round's batches are remembered, as embeddings on the client."""
    known: Annotated[int, Field(ge=2)] = 512
    """Of ``familiarity``: how many are kept at most."""
    novelty_quantile: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Of ``familiarity``: share of the known questions that may be called unfamiliar."""


class FedMosaicProxy(Method[FedMosaicProxySettings]):
    """Own model and shared proxy model.

    Args:
        settings: of the method.
    """

    name = "fedmosaic-proxy"
    title = "FedMosaic-Proxy"
    slots = (Slot("local", communicated=False),)
    answers_with = "local"  # with the proxy: see answering()
    robust = True
    heterogeneity = "tasks, architectures and tokenizers"
    Settings = FedMosaicProxySettings

    def check(self, settings: RunSettings) -> None:
        """Refuse a proxy model that does not exist. See :meth:`Method.check`."""
        if self.settings.proxy:
            find_base_model(self.settings.proxy)

    @cached_property
    def proxy(self) -> ProxyModel:
        """The small model with one LoRA. See :meth:`Method.proxy`."""
        run, own = self.resources.settings, self.settings
        rate = run.training.learning_rate if own.proxy_learning_rate is None else own.proxy_learning_rate
        changed = {"steps": own.proxy_steps * run.training.steps, "learning_rate": rate}
        return ProxyModel(
            model=own.proxy or run.scenario.probe or self.resources.pool.smallest(run.scenario.models),
            slots=(Slot("proxy", communicated=True),),
            training=run.training.model_copy(update=changed),
        )

    def receive(self, client: Client, download: Tensors) -> None:
        """Go on from the mean of all proxies, and where own models are shared from their mean.

        See :meth:`Method.receive`.
        """
        own, proxy = parted(download)
        if own:
            client.adapter.load_slot("local", own)
        if proxy:
            _proxy_of(client).adapter.load_slot("proxy", proxy)

    def train(self, client: Client, budget: Budget) -> None:
        """Train the own model exactly as local training does, then the proxy model. See :meth:`Method.train`."""
        proxy, seen = _proxy_of(client), list[Sample]()
        for batch in client.batches(budget):
            client.step(batch, slots=("local",), mix="local")
            seen += batch.samples
        if (allowance := proxy.budget()).steps:
            for batch in proxy.batches(allowance):
                proxy.step(batch, slots=("proxy",), mix="proxy")
        if self.settings.weighting == "familiarity":
            own = self.settings
            remember_questions(client, proxy, seen, per_round=own.known_per_round, most=own.known)

    @contextmanager
    def answering(self, client: Client) -> Iterator[BaseModel]:
        """The product of both models. See :meth:`Method.answering`."""
        proxy = _proxy_of(client)
        # the frozen proxy embeds questions between its answers: then its adapter must not be folded in
        mixed = proxy.adapter.mixed("proxy") if "known" in client.memory else folded_in(proxy.adapter, "proxy")
        with folded_in(client.adapter, "local"), mixed:
            yield ProductOfExperts(client.base, proxy.base, lambda samples: self._weights(client, samples))

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The proxy's adapter; that of the own model only where it is shared. See :meth:`Method.upload`."""
        own = client.snapshot("local") if self._shared else {}
        return own | of_proxy(_proxy_of(client).snapshot("proxy"))

    def upload_shapes(self, adapter: Adapter) -> TensorShapes:
        """Of the same tensors. See :meth:`Method.upload_shapes`."""
        assert adapter.proxy is not None  # the run has attached it with the adapter
        own = adapter.schema("local") if self._shared else {}
        return {**own, **of_proxy(adapter.proxy.schema("proxy"))}

    def download_shapes(self, adapter: Adapter) -> TensorShapes:
        """What is uploaded comes back as a mean. See :meth:`Method.download_shapes`."""
        return self.upload_shapes(adapter)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average the proxies over all clients, and shared own models within each architecture.

        See :meth:`Method.aggregate`.
        """
        return Aggregation(downloads=mean_within_architecture(uploads))

    @property
    def _shared(self) -> bool:
        return self.settings.own == "shared"

    def _weights(self, client: Client, samples: Sequence[Sample]) -> Tensor:
        """Return the proxy's weight in each answer, (B,)."""
        settings = self.settings
        if settings.weighting == "fixed" or "known" not in client.memory:
            return torch.full((len(samples),), settings.weight)
        own = familiar_questions(client, _proxy_of(client), samples, novelty_quantile=settings.novelty_quantile)
        return torch.where(own, settings.weight_familiar, settings.weight_foreign)


def _proxy_of(client: Client) -> Client:
    if client.proxy is None:
        raise ValueError(f"client {client.id} has no proxy model; a trainee of the server has none")
    return client.proxy
