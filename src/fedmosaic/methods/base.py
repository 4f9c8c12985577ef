"""What a federated method is: slots, a client half and a server half. Everything else is generic code.

A method is one file: its module docstring cites the paper and gives the update equations, a frozen dataclass holds its
settings with the paper's values, and a :class:`Method` says what trains, what is communicated, and how the server
combines it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

from torch import Tensor

from fedmosaic.adapters import (
    Adapter,
    Slot,
    SlotWeights,
    TensorShapes,
    folded_in,
    is_of_proxy,
    is_shared,
    is_slot_tensor,
)
from fedmosaic.config import AdapterSettings, RunSettings, TrainingSettings
from fedmosaic.errors import SettingsError
from fedmosaic.methods.aggregators.mean import Mean
from fedmosaic.methods.uploads import Tensors, Upload, Uploads
from fedmosaic.models import BaseModel
from fedmosaic.training import Budget, Client, Resources


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """Base of all methods' settings; fields can be changed with ``--set method.KEY=VALUE``.

    Fields whose names end with ``learning_rate``, and no others, are scaled where all learning rates are.
    """

    def public_needed(self, training: TrainingSettings) -> int:
        """Return the number of public samples that a round needs; 0: the data need have none.

        Args:
            training: of the clients.
        """
        return 0


S = TypeVar("S", bound=MethodSettings)


class ServerState(Protocol):
    """The server's state in a round, beside the uploads.

    Attributes:
        tensors: what the last round's :class:`Aggregation` asked to keep.
        round: the round whose downloads are made.
    """

    tensors: Tensors
    round: int

    @property
    def scratch(self) -> Path:
        """An empty folder that is kept until the downloads are sent."""
        ...

    def trainee(self, client: int, *, rate: float = 1.0) -> Client:
        """Return a client of the server's own, untrained, with public samples only.

        For methods that distil on the server. Trainees of one architecture take turns in the same adapter modules: load
        the slots of one, use it, go on to the next. Their costs count as the run's.

        Args:
            client: a client, whose base model is used.
            rate: factor of the clients' learning rates.

        Returns:
            The trainee.
        """
        ...


@dataclass(frozen=True)
class Aggregation:
    """The server's answer to a round."""

    downloads: Mapping[int, Tensors]
    """What each client receives; a client or a tensor that is left out receives nothing. Of many clients they may be
    on disk, and are read when they are sent."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """Kept by the server until the next round and in its checkpoints."""
    relevance: Tensor | None = None
    """(N, N) weights in the uploads' order, for the report."""
    similarity: Tensor | None = None
    """(N, N) similarity behind the weights, for the report."""

    def with_downloads(self, more: Mapping[int, Tensors]) -> Aggregation:
        """Return the same answer with downloads for further clients; those that are on disk stay there.

        Args:
            more: what each of them receives.
        """
        former = cast("MutableMapping[int, Tensors]", self.downloads)  # of which nothing is changed
        return replace(self, downloads=ChainMap(dict(more), former))


@dataclass(frozen=True)
class ProxyModel:
    """A small model that every client trains beside its own: the same one on all clients, whatever their own are."""

    model: str
    """Name of its base model."""
    slots: tuple[Slot, ...]
    """Of its adapter, which has conventional LoRA everywhere: there is no other architecture to share with."""
    training: TrainingSettings
    """Its own steps and learning rates."""
    answers_with: SlotWeights
    """How the slots are mixed when it answers."""


class Method(ABC, Generic[S]):
    """One federated algorithm.

    Args:
        settings: an instance of ``Settings``.

    Class attributes (``slots``, ``answers_with``, ``colora`` and ``across_architectures`` may be set on an instance,
    where they depend on its settings):
        name: as given on the command line.
        title: for tables.
        slots: the adapter's slots; at most one is communicated.
        answers_with: how the slots are mixed when the client's model answers (and by default when it trains).
        colora: whether block-end layers carry Co-LoRA instead of conventional LoRA.
        across_architectures: whether the server combines P and Q over clients of all architectures; for newcomers.
        gate: kind of gate where ``answers_with`` is ``"gate"``; empty: the run's setting ``adapter.gate``.
        robust: whether :meth:`aggregate` combines uploads by the run's rule (``aggregation.rule``), as all means here
            do. The class that defines :meth:`aggregate` must say so, else other rules than the mean are refused.
        elastic: whether clients may leave out, or send and receive smaller, tensors than :meth:`upload_shapes` and
            :meth:`download_shapes` announce (ranks or depths that differ between clients or change in a run).
        heterogeneity: what may differ between clients beside their samples, for ``docs/methods.md``.
        Settings: the settings dataclass.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    slots: tuple[Slot, ...]
    answers_with: SlotWeights
    colora: bool = False
    across_architectures: bool = False
    gate: ClassVar[str] = ""
    robust: ClassVar[bool] = False
    elastic: ClassVar[bool] = False
    heterogeneity: ClassVar[str] = ""
    Settings: ClassVar[type[Any]] = MethodSettings

    _resources: Resources | None = None

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    def communicated(self) -> str | None:
        """Name of the slot that is uploaded, if any."""
        return next((slot.name for slot in self.slots if slot.communicated), None)

    @property
    def proxy(self) -> ProxyModel | None:
        """What every client trains beside its own model, as ``client.proxy``; default: nothing. Asked once prepared."""
        return None

    @property
    def needed(self) -> Collection[str]:
        """Names of tensors that the server half cannot do without in any upload, whatever the client's own model.

        A client that does not announce them is not let in. Default: none by name.
        """
        return ()

    @property
    def guarantee(self) -> str:
        """What reports say of the privacy of the uploads; empty: nothing."""
        return ""

    @property
    def answers_by_mixing(self) -> bool:
        """Whether :attr:`answers_with` is all of how the model answers, so that it can be folded into one adapter."""
        return type(self).answering is Method.answering

    def check(self, settings: RunSettings) -> None:
        """Refuse, before anything starts, settings of a run that the method could not carry to its end.

        Args:
            settings: of the run.

        Raises:
            SettingsError: says why.
        """

    @classmethod
    def check_rule(cls, rule: str) -> None:
        """Refuse a rule of aggregation that the method would not follow.

        Args:
            rule: ``aggregation.rule``.

        Raises:
            SettingsError: it is not ``mean``, and the method combines uploads in its own way.
        """
        saying = next(vars(each) for each in cls.__mro__ if not {"robust", "aggregate"}.isdisjoint(vars(each)))
        if rule != Mean.name and not saying.get("robust", False):
            raise SettingsError(
                f"aggregation.rule={rule} is not for method {cls.name!r}, which combines uploads in its own way; "
                f"set aggregation.rule={Mean.name}, or see docs/robust.md for the methods that follow it"
            )

    # ---- client half ---------------------------------------------------------------------------------------------

    def prepare(self, resources: Resources) -> None:
        """Take what the client half may use of the run; done once, before anything else of the client half.

        Args:
            resources: of the run; models are loaded when they are first asked for.

        Raises:
            ValueError: it was done before; another run needs another object.
            SettingsError: the method does not follow the run's rule of aggregation.
        """
        self.check_rule(resources.settings.aggregation.rule)
        if self._resources is not None:
            raise ValueError(f"method {self.name!r} was prepared before; make another one for another run")
        self._resources = resources

    @property
    def resources(self) -> Resources:
        """What :meth:`prepare` has taken.

        Raises:
            ValueError: it was not called.
        """
        if self._resources is None:
            raise ValueError(f"method {self.name!r} knows nothing of a run; call prepare() first")
        return self._resources

    def adapter_settings(self, settings: AdapterSettings) -> AdapterSettings:
        """Return the adapters' settings: without blocks if there is no Co-LoRA, with the method's gate if it has one.

        Args:
            settings: of the run.
        """
        own = {} if self.colora else {"blocks": 0}
        return settings.model_copy(update=own | ({"gate": self.gate} if self.gate else {}))

    def receive(self, client: Client, download: Tensors) -> None:
        """Take up a download. Default: load it into the communicated slot.

        Args:
            client: the client.
            download: by name; empty in the first round.
        """
        if self.communicated is not None and download:
            client.adapter.load_slot(self.communicated, download)

    def receive_final(self, client: Client, download: Tensors) -> None:
        """Take up the download after the last round, without training: the client answers with what this leaves.

        Default: as :meth:`receive`.

        Args:
            client: the client, as the last round that it trained in has left it.
            download: by name; empty if the server has nothing for it.
        """
        self.receive(client, download)

    @property
    def exchange_changes_answers(self) -> bool:
        """Whether a client that takes up a download without training answers otherwise than before.

        If not, nothing is sent after the last round. Default: False where downloads go into the communicated slot
        and answers are given by a mix of slots without it (or nothing is communicated).
        """
        plain = type(self).receive is Method.receive and type(self).receive_final is Method.receive_final
        if not (plain and type(self).answering is Method.answering):
            return True
        if self.communicated is None or isinstance(self.answers_with, str):
            return self.communicated is not None and self.answers_with in ("gate", self.communicated)
        return self.answers_with.get(self.communicated, 0) != 0

    @abstractmethod
    def train(self, client: Client, budget: Budget) -> None:
        """Train on this round's batches.

        Args:
            client: the client.
            budget: number of steps.
        """

    @contextmanager
    def answering(self, client: Client) -> Iterator[BaseModel]:
        """Yield the model that answers for a client, for evaluation. Default: its base model with :attr:`answers_with`.

        Args:
            client: the client.
        """
        with folded_in(client.adapter, self.answers_with):
            yield client.base

    def answering_at_start(self, client: Client) -> AbstractContextManager[BaseModel]:
        """Yield what answers before the first round: the base model, with the LoRA that the client brings in all slots.

        Default: as :meth:`answering`; for methods in whose answers something else has a part.

        Args:
            client: as it begins.
        """
        return self.answering(client)

    def upload(self, client: Client) -> dict[str, Tensor]:
        """Return the tensors that leave the client after training. Default: the communicated slot.

        Args:
            client: the client.
        """
        return {} if self.communicated is None else client.adapter.slot_tensors(self.communicated)

    def upload_shapes(self, adapter: Adapter) -> TensorShapes:
        """Return names and shapes of everything that :meth:`upload` may return.

        Args:
            adapter: the client's.
        """
        return {} if self.communicated is None else adapter.schema(self.communicated)

    def download_shapes(self, adapter: Adapter) -> TensorShapes:
        """Return names and shapes of everything that the server may send.

        Args:
            adapter: the client's.
        """
        return {} if self.communicated is None else adapter.schema(self.communicated)

    # ---- server half ---------------------------------------------------------------------------------------------

    def check_upload(self, upload: Upload) -> None:
        """Refuse an upload that has the announced names and shapes, yet cannot be used. Default: nothing is refused.

        Args:
            upload: just received.

        Raises:
            WireError: names the client and what is wrong.
        """

    @abstractmethod
    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Return one download per client that made an upload; pure: same inputs, same outputs.

        Where all clients train in every round, the uploads are those of the round before. Else they are each client's
        last one, and only ``uploads.receivers``, the clients that train next, are sent their downloads.

        Args:
            uploads: of the clients.
            state: what the server keeps, and its trainees.
        """

    def initial_download(
        self, architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads
    ) -> dict[str, Tensor]:
        """Return the download of a client without an upload, when others have made some. Default: the uniform mean.

        Args:
            architecture: the newcomer's.
            shapes: of its uploads; means are sent of adapter tensors among these only.
            uploads: the others'; P and Q count from all if the method combines them so, other tensors from the same
                architecture.

        Returns:
            By name.
        """
        return uniform_mean(architecture, shapes, uploads, across_architectures=self.across_architectures)


def mean_within_architecture(uploads: Uploads) -> dict[int, dict[str, Tensor]]:
    """Return the uniform mean of every tensor over the clients of one architecture, for each of them.

    Args:
        uploads: of a round.

    Returns:
        By client.
    """
    return mean_of_comparable(uploads, across_architectures=False)


def mean_of_comparable(uploads: Uploads, *, across_architectures: bool) -> dict[int, dict[str, Tensor]]:
    """Return the uniform mean of every tensor over the clients in whose models it means the same, for each of them.

    Args:
        uploads: of a round.
        across_architectures: False keeps P and Q within an architecture, too.

    Returns:
        By client.
    """
    downloads: dict[int, dict[str, Tensor]] = {client: {} for client in uploads}
    for clients, names in uploads.comparable(across_architectures=across_architectures):
        means = uploads.averages(names, clients)
        for client in clients:
            downloads[client] |= means
    return downloads


def uniform_mean(
    architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads, *, across_architectures: bool = True
) -> dict[str, Tensor]:
    """Return the uniform mean of every adapter tensor that others have for a client without an upload.

    Args:
        architecture: the client's.
        shapes: of its uploads.
        uploads: the others'.
        across_architectures: False counts P and Q from the same architecture only, too.

    Returns:
        By name; tensors that nobody has are left out.
    """
    names: dict[tuple[int, ...], list[str]] = {}
    for name, shape in shapes.items():
        holders = tuple(
            client
            for client, upload in uploads.items()
            if is_slot_tensor(name) and name in upload.tensors and upload.tensors[name].shape == shape
            if (is_of_proxy(name) or (across_architectures and is_shared(name)) or upload.architecture == architecture)
        )
        if holders:
            names.setdefault(holders, []).append(name)
    return {name: mean for clients in names for name, mean in uploads.averages(names[clients], clients).items()}
