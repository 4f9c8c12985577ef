"""What a federated method is: slots, a client half and a server half. Everything else is generic code.

A method is one file: its module docstring cites the paper and gives the update equations, a frozen dataclass holds its
settings with the paper's values, and a :class:`Method` says what trains, what travels and how the server combines it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from fedmosaic.adapters import Adapter, Slot, is_shared, is_slot_tensor
from fedmosaic.config import RunSettings
from fedmosaic.training import Budget, Client, Mix, ModelPool

Tensors = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """Base of all methods' settings; fields are what ``--set method.KEY=VALUE`` can change."""


S = TypeVar("S", bound=MethodSettings)


@dataclass(frozen=True)
class Upload:
    """What the server knows of one client after a round."""

    client: int
    architecture: str
    tensors: Tensors
    samples: int = 0
    """Training samples seen in the round."""


@dataclass(frozen=True)
class Aggregation:
    """The server's answer to a round."""

    downloads: dict[int, dict[str, Tensor]]
    """What each client receives; a client or a tensor that is left out receives nothing."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """Kept by the server until the next round and in its checkpoints."""
    relevance: Tensor | None = None
    """(N, N) weights in the uploads' order, for the report."""
    similarity: Tensor | None = None
    """(N, N) similarity behind the weights, for the report."""


class Uploads(Mapping[int, Upload]):
    """All uploads of a round by client id, in ascending order (node ids and arrival order are random)."""

    def __init__(self, uploads: Sequence[Upload]) -> None:
        self._by_client = {upload.client: upload for upload in sorted(uploads, key=lambda upload: upload.client)}

    def __getitem__(self, client: int) -> Upload:
        return self._by_client[client]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_client)

    def __len__(self) -> int:
        return len(self._by_client)

    def stack(self, name: str, clients: Sequence[int] | None = None) -> Tensor:
        """(N, ...) the tensor ``name`` of the given clients, default all."""
        return torch.stack([self[client].tensors[name] for client in (self if clients is None else clients)])

    def comparable(self, *, across_architectures: bool) -> list[tuple[list[int], list[str]]]:
        """Group clients whose tensors mean the same, as ``(clients, tensor names)``.

        Co-LoRA's P and Q can be combined by all clients that hold them; conventional A and B only by clients of one
        architecture (METHODS A.4). Tensors that are not adapter weights (a sketch) are left out.

        Args:
            across_architectures: False keeps P and Q within an architecture, too.
        """
        holders: dict[tuple[str, str], list[int]] = {}
        for client, upload in self.items():
            for name in upload.tensors:
                if not is_slot_tensor(name):
                    continue
                scope = "" if across_architectures and is_shared(name) else upload.architecture
                holders.setdefault((scope, name), []).append(client)
        groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for (scope, name), clients in holders.items():
            groups.setdefault((scope, tuple(clients)), []).append(name)
        return [(list(clients), names) for (_, clients), names in groups.items()]


class Method(ABC, Generic[S]):
    """One federated algorithm.

    Class attributes (``answers_with`` and ``colora`` may be set on an instance, where they depend on its settings):
        name: as given on the command line.
        title: for tables.
        slots: the adapter's slots; at most one travels.
        answers_with: how the slots are mixed when the client's model answers (and by default when it trains).
        colora: whether block-end layers carry Co-LoRA instead of conventional LoRA.
        Settings: the settings dataclass.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    slots: ClassVar[tuple[Slot, ...]]
    answers_with: Mix
    colora: bool = False
    Settings: ClassVar[type[Any]] = MethodSettings

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    def travelling(self) -> str | None:
        """Name of the slot that is uploaded, if any."""
        return next((slot.name for slot in self.slots if slot.travels), None)

    @property
    def guarantee(self) -> str:
        """What reports say of the privacy of the uploads; empty: nothing."""
        return ""

    # ---- client half ---------------------------------------------------------------------------------------------

    def prepare(self, pool: ModelPool, settings: RunSettings) -> None:
        """Remember what a client half needs of its machine; called once, before anything else of it."""

    def receive(self, client: Client, download: Tensors) -> None:
        """Take up what the server sent; ``download`` is empty in the first round. Default: into the travelling slot."""
        if self.travelling is not None and download:
            client.adapter.load_slot(self.travelling, download)

    @abstractmethod
    def train(self, client: Client, budget: Budget) -> None:
        """Train on this round's batches."""

    def upload(self, client: Client) -> dict[str, Tensor]:
        """What leaves the client after training. Default: the travelling slot."""
        return {} if self.travelling is None else client.adapter.slot_tensors(self.travelling)

    def upload_shapes(self, adapter: Adapter) -> Shapes:
        """Names and shapes of everything that :meth:`upload` may return."""
        return {} if self.travelling is None else adapter.schema(self.travelling)

    def download_shapes(self, adapter: Adapter) -> Shapes:
        """Names and shapes of everything that the server may send."""
        return {} if self.travelling is None else adapter.schema(self.travelling)

    # ---- server half ---------------------------------------------------------------------------------------------

    @abstractmethod
    def aggregate(self, uploads: Uploads, state: Tensors) -> Aggregation:
        """Turn a round's uploads into one download per client; pure: same inputs, same outputs."""


def mean_within_architecture(uploads: Uploads) -> dict[int, dict[str, Tensor]]:
    """Uniform mean of every tensor over the clients of one architecture, for each of them."""
    downloads: dict[int, dict[str, Tensor]] = {client: {} for client in uploads}
    for clients, names in uploads.comparable(across_architectures=False):
        for name in names:
            mean = uploads.stack(name, clients).mean(0)
            for client in clients:
                downloads[client][name] = mean
    return downloads
