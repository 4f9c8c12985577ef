"""FedMosaic with a proxy model: what all clients share is a small model, and not a part of their own.

RELA gives every client the same small frozen model. Here it learns: every client k trains a LoRA a_k on it beside the
LoRA L_k of its own model, on its own samples, each with its own optimiser; all N proxies are one architecture:

    L_k <- L_k - lr * grad F_k(L_k)                  own model; stays on the client (``own = "private"``)
    a_k <- a  - lr_p * grad F_k(a)                   proxy model, from what was received
    a    = 1/N sum_j a_j                             server, over all clients whatever their own architectures

or, with ``relevance``, a_k <- sum_j w_kj a_j, more of those who do the like (:mod:`fedmosaic.methods.proxy_mixture`).
How alike two clients are is the cosine of their sketches (:mod:`fedmosaic.methods.task_sketch`; the probe is the frozen
proxy), or of the proxy's own updates: a_k after training less what was received. All N clients' are comparable, as all
proxies are of one architecture and their starts are near each other.

    answers with   log p_own(y | x; L_k) + w(x) log p_proxy(y | x; a_k)        over whole answers y

With ``restart`` = rho < 1 a round starts from s_k = (1 - rho) a_k + rho a: a client's proxy stays its own in part, and
a is the mean of all as before. That makes a_k better at what the client does, and worse at what others do, which a
knows: with ``common`` = c > 0 both count,

    log p_own(y | x; L_k) + w(x) [(1 - c(x)) log p_proxy(y | x; a_k) + c(x) log p_proxy(y | x; a)]

With ``own = "shared"`` own models are averaged within each architecture, too: L_k starts from that mean, as in FedAvg.
``weighting = "familiarity"``: w is small for questions that are like those the client has trained on, and large for
others (:mod:`fedmosaic.methods.familiarity`, with the embeddings of the frozen proxy), and so is c.

Proxy models: Kalra et al., "Decentralized federated learning through proxy model sharing" (ProxyFL), Nature
Communications 2023. Differences: there both models distil into each other and the own one alone answers; here they
learn apart and answer together, as a product of experts (Hinton, 2002) between any two tokenizers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property

import torch
from torch import Tensor

from fedmosaic.adapters import (
    Adapter,
    MixedModel,
    Slot,
    SlotWeights,
    TensorShapes,
    folded_in,
    is_of_proxy,
    of_proxy,
    parted,
)
from fedmosaic.config import RunSettings
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.methods.aggregators.mean import Mean
from fedmosaic.methods.base import (
    Aggregation,
    Method,
    ProxyModel,
    ServerState,
    mean_within_architecture,
)
from fedmosaic.methods.familiarity import remember_questions
from fedmosaic.methods.fedmosaic_proxy_settings import FedMosaicProxySettings
from fedmosaic.methods.proxy_mixture import RelevanceShare, SimilarityOf, mixed_by_relevance
from fedmosaic.methods.proxy_weight import ProxyWeight
from fedmosaic.methods.restart import moved_towards
from fedmosaic.methods.task_sketch import TaskSketch, check_budget
from fedmosaic.methods.token_product import answering_together
from fedmosaic.methods.upload_memory import UploadMemory
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.models import BaseModel, find_base_model
from fedmosaic.relevance import GUARANTEES
from fedmosaic.relevance.update_sketch import update_sketch
from fedmosaic.relevance.weights import centred, unit_rows
from fedmosaic.training import Budget, Client

_RECEIVED, _COMMON = "received", "common"
_NO_GUARANTEE = "no guarantee: relevance is made of the proxies' updates, which are uploaded as they are"


class FedMosaicProxy(Method[FedMosaicProxySettings]):
    """Own model and shared proxy model.

    Args:
        settings: of the method.
    """

    name = "fedmosaic-proxy"
    title = "FedMosaic-Proxy"
    slots: tuple[Slot, ...] = (Slot("local", communicated=False),)
    answers_with: SlotWeights = "local"  # with the proxy: see answering()
    robust = True
    heterogeneity = "tasks, architectures and tokenizers"
    Settings = FedMosaicProxySettings

    def __init__(self, settings: FedMosaicProxySettings) -> None:
        super().__init__(settings)
        if self._shared:
            self.slots, self.answers_with = self._slots("local")

    @property
    def needed(self) -> Collection[str]:
        """Sketches, where relevance is made of them. See :meth:`Method.needed`."""
        return ("sketch",) if self._sketches else ()

    @property
    def guarantee(self) -> str:
        """What the sanitising of what relevance is made of promises. See :meth:`Method.guarantee`."""
        sketches = GUARANTEES[self.settings.sanitise]
        return {"sketch": sketches, "update": _NO_GUARANTEE}.get(self.settings.relevance, "")

    def check(self, settings: RunSettings) -> None:
        """Refuse an unknown proxy model, and a budget that ends before the run. See :meth:`Method.check`."""
        if self.settings.proxy:
            find_base_model(self.settings.proxy)
        self.settings.check_memory(sketches=self._sketches)
        if self.settings.relevance == "sketch":
            check_budget(self.settings, settings)
        self.settings.check_own_steps(settings.training.steps)
        if self._sketches and settings.aggregation.rule != Mean.name:
            raise SettingsError(
                f"aggregation.rule={settings.aggregation.rule} is not for mixtures of proxies by relevance, in which a "
                f"client's own counts, too; set method.relevance=uniform, or aggregation.rule={Mean.name}"
            )

    @cached_property
    def proxy(self) -> ProxyModel:
        """The small model with one LoRA. See :meth:`Method.proxy`."""
        run, own = self.resources.settings, self.settings
        rate = run.training.learning_rate if own.proxy_learning_rate is None else own.proxy_learning_rate
        changed = {"steps": own.proxy_steps * run.training.steps, "learning_rate": rate}
        slots, answers_with = self._slots("proxy")
        return ProxyModel(
            model=own.proxy or run.scenario.probe or self.resources.pool.smallest(run.scenario.models),
            slots=(*slots, Slot(_COMMON, communicated=False)) if own.keeps_common else slots,
            training=run.training.model_copy(update=changed),
            answers_with=answers_with,
        )

    def _slots(self, trained: str) -> tuple[tuple[Slot, ...], SlotWeights]:
        """Slots of an adapter that is received, trained and uploaded, and their weights in its answers."""
        slot, share = Slot(trained, communicated=True), self.settings.share
        if share is None:
            return (slot,), trained
        return (slot, Slot(_RECEIVED, communicated=False)), {trained: 1 - share, _RECEIVED: share}

    def receive(self, client: Client, download: Tensors) -> None:
        """Go on from the mean of all proxies, and where own models are shared from their mean.

        See :meth:`Method.receive`.
        """
        own, proxy = parted(download)
        if self._shared:
            self._receive(client, "local", own)
        self._receive(_proxy_of(client), "proxy", proxy)

    def receive_final(self, client: Client, download: Tensors) -> None:
        """With ``share``, keep what was trained beside a next round's start; with ``common``, renew that alone.

        See :meth:`Method.receive_final`.
        """
        for each, trained, received in zip(
            (client, _proxy_of(client)), ("local", "proxy"), parted(download), strict=True
        ):
            if not received:
                continue
            if any(slot.name == _COMMON for slot in each.adapter.slots):
                each.adapter.load_slot(_COMMON, received)  # what is the client's own needs no mixing with it
                continue
            own = each.snapshot(trained)
            self._receive(each, trained, received)
            if self.settings.share is not None:
                each.adapter.load_slot(trained, own)

    def _receive(self, client: Client, trained: str, download: Tensors) -> None:
        """Go towards what was received, if anything was, and keep what answers need of it."""
        own = client.snapshot(trained)
        if download:
            client.adapter.load_slot(trained, download)  # which refuses what does not fit
        received = client.snapshot(trained)
        start = moved_towards(received, own, self.settings.restart)
        kept = {trained: start, _RECEIVED: start, _COMMON: received}
        for slot in client.adapter.slots:
            client.adapter.load_slot(slot.name, kept[slot.name])

    def train(self, client: Client, budget: Budget) -> None:
        """Train the own model as local training does, then the proxy model. See :meth:`Method.train`."""
        proxy, seen = _proxy_of(client), list[Sequence[Sample]]()
        if steps := self.settings.own_step_count(budget.steps):
            for batch in client.batches(Budget(steps)):
                client.step(batch, slots=("local",), mix="local")
                seen.append(batch.samples)
        received = proxy.snapshot("proxy")
        if (allowance := proxy.budget()).steps:
            for batch in proxy.batches(allowance):
                proxy.step(batch, slots=("proxy",), mix="proxy")
        own = self.settings
        if own.relevance == "sketch":
            self._sketch.update(client, seen)
        if own.relevance == "update":
            self._follow_update(client, received)
        if own.weighting == "familiarity":
            questions = [sample for batch in seen for sample in batch]
            remember_questions(client, proxy, questions, per_round=own.known_per_round, most=own.known)

    @contextmanager
    def answering(self, client: Client) -> Iterator[BaseModel]:
        """The product of both models, or of the own one and two of the proxy. See :meth:`Method.answering`."""
        proxy, rule = _proxy_of(client), self.proxy_weight(client)
        mix, common = self.proxy.answers_with, None
        trained: BaseModel = proxy.base
        in_place: AbstractContextManager[None] = nullcontext()
        if rule.known is None and not rule.shared:
            in_place = folded_in(proxy.adapter, mix)
        else:  # the proxy answers twice, or embeds questions, frozen, in between
            trained = MixedModel(proxy.base, proxy.adapter, mix)
            common = MixedModel(proxy.base, proxy.adapter, _COMMON) if rule.shared else None
        with folded_in(client.adapter, self.answers_with), in_place:
            yield answering_together(
                self.open_answers,
                client.base,
                trained,
                common,
                lambda samples: rule(samples, lambda asked: proxy.embed(asked, mix={})),
            )

    def answering_at_start(self, client: Client) -> AbstractContextManager[BaseModel]:
        """The own model alone, as the proxy has learned nothing. See :meth:`Method.answering_at_start`."""
        return super().answering(client)

    @property
    def open_answers(self) -> str:
        """How the models answer open questions, one of :data:`OPEN_ANSWERS`."""
        return self.settings.open_answers

    @property
    def common_slot(self) -> str:
        """The slot of the proxy's adapter that holds what was received."""
        return _COMMON

    def proxy_weight(self, client: Client) -> ProxyWeight:
        """Return how much the proxy counts in a client's answers.

        Args:
            client: after training.
        """
        own = self.settings
        return ProxyWeight(
            fixed=own.weight,
            familiar=own.weight_familiar,
            foreign=own.weight_foreign,
            novelty_quantile=own.novelty_quantile,
            common=own.common,
            common_familiar=own.common_familiar,
            common_foreign=own.common_foreign,
            known=client.memory.get("known") if own.weighting == "familiarity" else None,
        )

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The proxy's adapter, that of the own model only where it is shared, and the sketch.

        See :meth:`Method.upload`.
        """
        own = client.snapshot("local") if self._shared else {}
        sketch = {"sketch": client.memory["sketch"]} if self._sketches else {}
        return own | of_proxy(_proxy_of(client).snapshot("proxy")) | sketch

    def upload_shapes(self, adapter: Adapter) -> TensorShapes:
        """Of the same tensors. See :meth:`Method.upload_shapes`."""
        sketch = {"sketch": (self._sketch_size,)} if self._sketches else {}
        return {**self.download_shapes(adapter), **sketch}

    def download_shapes(self, adapter: Adapter) -> TensorShapes:
        """Adapters come back mixed. See :meth:`Method.download_shapes`."""
        assert adapter.proxy is not None  # the run has attached it with the adapter
        own = adapter.schema("local") if self._shared else {}
        return {**own, **of_proxy(adapter.proxy.schema("proxy"))}

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Mix the proxies over all clients, and average shared own models within each architecture.

        See :meth:`Method.aggregate`.
        """
        own = self.settings
        if own.remembered:
            memory = UploadMemory(own, ema=own.ema, centred=own.relevance == "update", keeps=is_of_proxy)
            return memory.aggregated(uploads, state, self._aggregate)
        return self._aggregate(uploads, state)

    def _aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        similar = self.similar(uploads)
        if similar is None:
            return Aggregation(downloads=mean_within_architecture(uploads))
        own = self.settings
        share = RelevanceShare(temperature=own.temperature, own=own.self_weight, relevance=own.relevance_share)
        return mixed_by_relevance(uploads, state, similar, share)

    def similar(self, uploads: Uploads) -> SimilarityOf | None:
        """Return how alike the clients' tasks are, or None where all count alike.

        Args:
            uploads: of the clients, whose order counts.
        """
        if not self._sketches:
            return None
        sketches = uploads.stack("sketch")
        unit = unit_rows(centred(sketches) if self.settings.relevance == "update" else sketches)
        return lambda rows: (unit[rows] @ unit.T).clamp_(-1.0, 1.0)

    @property
    def _shared(self) -> bool:
        return self.settings.own == "shared"

    @property
    def _sketches(self) -> bool:
        return self.settings.relevance != "uniform"

    @property
    def _sketch_size(self) -> int:
        own = self.settings
        return own.sketch_size if own.relevance == "update" or own.sketch == "projection" else self._sketch.size

    @cached_property
    def _sketch(self) -> TaskSketch:
        run = self.resources.settings
        return TaskSketch(self.settings, self.resources.pool.probe(self.proxy.model), seed=run.seed)

    def _follow_update(self, client: Client, received: Tensors) -> None:
        """Mix the sketch of the proxy's update into the running one."""
        trained = _proxy_of(client).snapshot("proxy")
        seed, own = self.resources.settings.seed, self.settings
        now = update_sketch(received, trained, size=own.sketch_size, seed=seed)
        client.memory["sketch"] = torch.lerp(client.memory.get("sketch", now), now, own.ema)


def _proxy_of(client: Client) -> Client:
    if client.proxy is None:
        raise ValueError(f"client {client.id} has no proxy model; a trainee of the server has none")
    return client.proxy
