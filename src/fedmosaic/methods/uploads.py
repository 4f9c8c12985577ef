"""What the server's half of a method works on: the clients' last uploads."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.adapters import TensorShapes, is_of_proxy, is_shared, is_slot_tensor
from fedmosaic.methods.aggregators.base import Aggregator
from fedmosaic.methods.aggregators.mean import Mean

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Upload:
    """The last upload of one client.

    Attributes:
        client: its id.
        architecture: name of its base model's architecture.
        tensors: by name, as :meth:`Method.upload_shapes` announces.
    """

    client: int
    architecture: str
    tensors: Tensors
    samples: int = 0
    """Training samples seen in the round."""
    round: int = 0
    """The round it was made in."""

    @property
    def shapes(self) -> TensorShapes:
        """Of its tensors by name; nothing is read for them that is on disk."""
        known: TensorShapes | None = getattr(self.tensors, "shapes", None)
        return {name: tuple(each.shape) for name, each in self.tensors.items()} if known is None else known

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(map(math.prod, self.shapes.values()))


class Uploads(Mapping[int, Upload]):
    """Each client's last upload by client id, in ascending order (node ids and arrival order are random).

    Args:
        uploads: at most one per client.
        receivers: clients whose downloads will be sent; a method may leave out the others'. Default: all.
        rule: by which they are to be combined; default: the mean.

    Attributes:
        receivers: those of them that uploaded, ascending.
        rule: see above.
    """

    def __init__(
        self, uploads: Iterable[Upload], receivers: Collection[int] | None = None, rule: Aggregator | None = None
    ) -> None:
        self.rule = Mean() if rule is None else rule
        self._by_client = {upload.client: upload for upload in sorted(uploads, key=lambda upload: upload.client)}
        self.receivers = [client for client in self._by_client if receivers is None or client in receivers]

    def __getitem__(self, client: int) -> Upload:
        return self._by_client[client]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_client)

    def __len__(self) -> int:
        return len(self._by_client)

    def since(self, round_: int) -> Uploads:
        """Return the uploads made in a round or later.

        Args:
            round_: the first round.
        """
        return Uploads((upload for upload in self.values() if upload.round >= round_), rule=self.rule)

    def updated(self, newer: Uploads) -> Uploads:
        """Return these uploads, with newer ones in place of the same clients'.

        Args:
            newer: the newer ones; their clients may be new.
        """
        return Uploads({**self, **newer}.values(), rule=self.rule)

    def towards(self, receivers: Collection[int]) -> Uploads:
        """Return the same uploads with other receivers.

        Args:
            receivers: clients whose downloads will be sent.
        """
        return Uploads(self.values(), receivers, self.rule)

    def combined_by(self, rule: Aggregator) -> Uploads:
        """Return the same uploads with another rule.

        Args:
            rule: by which they are to be combined.
        """
        return Uploads(self.values(), self.receivers, rule)

    def averages(self, names: Sequence[str], clients: Sequence[int]) -> dict[str, Tensor]:
        """Return several tensors' averages over several clients, by the uploads' rule.

        Args:
            names: of the tensors, which belong together: rules that compare clients do so by all of them.
            clients: ids, at least one.

        Returns:
            By name.
        """
        parts = self.rule.averaged(len(clients), lambda: (self.stack(name, clients) for name in names))
        return dict(zip(names, parts, strict=True))

    def stack(self, name: str, clients: Sequence[int] | None = None) -> Tensor:
        """Return one tensor of several clients.

        Args:
            name: of the tensor.
            clients: ids; None: all.

        Returns:
            (N, ...).
        """
        return torch.stack([self[client].tensors[name] for client in (self if clients is None else clients)])

    def matrix(self, names: Sequence[str], clients: Sequence[int]) -> Tensor:
        """Return several tensors of several clients, flattened and concatenated in one row per client.

        Args:
            names: of the tensors.
            clients: ids, at least one.

        Returns:
            (N, V).
        """
        like = [self[clients[0]].tensors[name] for name in names]
        matrix = torch.empty(len(clients), sum(tensor.numel() for tensor in like), dtype=like[0].dtype)
        for client, row in zip(clients, matrix, strict=True):
            torch.cat([self[client].tensors[name].flatten() for name in names], out=row)
        return matrix

    def unflattened(self, row: Tensor, names: Sequence[str], client: int) -> dict[str, Tensor]:
        """Return a row of :meth:`matrix` as tensors.

        Args:
            row: (V,).
            names: of the tensors.
            client: whose shapes they have.

        Returns:
            By name.
        """
        shapes = [self[client].shapes[name] for name in names]
        parts = torch.split(row, [math.prod(shape) for shape in shapes])
        return {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}

    def comparable(self, *, across_architectures: bool) -> list[tuple[list[int], list[str]]]:
        """Return groups of clients whose tensors mean the same.

        P and Q of Co-LoRA and of tower adapters can be combined by all clients that hold them; conventional A and B
        only by clients of one architecture (docs/method-facts.md#aggregation). Tensors that are not adapter weights
        (a sketch) are left out.

        Args:
            across_architectures: False keeps P and Q within an architecture, too. A proxy model's tensors can always be
                combined by all: it has one architecture.

        Returns:
            ``(clients, tensor names)`` of each group.
        """
        holders: dict[tuple[str, str], list[int]] = {}
        for client, upload in self.items():
            for name in upload.tensors:
                if not is_slot_tensor(name):
                    continue
                everywhere = is_of_proxy(name) or (across_architectures and is_shared(name))
                scope = "" if everywhere else upload.architecture
                holders.setdefault((scope, name), []).append(client)
        groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for (scope, name), clients in holders.items():
            groups.setdefault((scope, tuple(clients)), []).append(name)
        return [(list(clients), names) for (_, clients), names in groups.items()]
