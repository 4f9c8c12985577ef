"""A download of its own for every client, made of the others' uploads, in memory or, for many clients, through disk.

Through disk, what is in memory is one block of the weights (receivers, N) and one slab of columns before and after
mixing, whatever the number of clients; a client's download is read when it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from fedmosaic.methods.aggregators.base import distances_between, most_weights
from fedmosaic.methods.uploads import Uploads
from fedmosaic.relevance.column_store import ColumnStore, gather_columns

MOST_CLIENTS_IN_A_MATRIX = 1000  # nobody looks at a larger one
_MOST_VALUES_IN_MEMORY = 2**24
_RECEIVERS = 1024  # of one block

RowWeights = Callable[[Tensor], Tensor]
"""Gives the weights (M, N) of some receivers (M,), which are rows of the N clients that are mixed."""


def too_large_for_memory(uploads: Uploads) -> bool:
    """Return whether uploads are to be mixed through disk.

    Args:
        uploads: of all clients.
    """
    return sum(upload.size for upload in uploads.values()) > _MOST_VALUES_IN_MEMORY


class InMemoryMixtures(dict[int, dict[str, Tensor]]):
    """Downloads by client, mixed when they are added.

    Args:
        receivers: the clients that receive something, even if it is nothing.
    """

    def __init__(self, receivers: Sequence[int]) -> None:
        super().__init__({client: {} for client in receivers})

    def add(
        self, uploads: Uploads, names: Sequence[str], clients: Sequence[int], weights: RowWeights, *, most: int = 0
    ) -> None:
        """Mix some tensors. See :meth:`Mixtures.add`."""
        receivers = torch.tensor([row for row, client in enumerate(clients) if client in self], dtype=torch.long)
        if not len(receivers):
            return
        values = uploads.matrix(names, clients)
        mixed = uploads.rule.own_mixtures(weights(receivers), values, receivers, most=most)
        for row, own in zip(receivers.tolist(), mixed, strict=True):
            self[clients[row]] |= uploads.unflattened(own, names, clients[row])


class Mixtures(Mapping[int, dict[str, Tensor]]):
    """Downloads by client, read from disk when they are asked for.

    Args:
        receivers: the clients that receive something, even if it is nothing.
        scratch: an empty folder for the values before and after mixing; it must stay until all downloads are sent.
    """

    def __init__(self, receivers: Sequence[int], scratch: Path) -> None:
        self._parts: dict[int, list[Callable[[], dict[str, Tensor]]]] = {client: [] for client in receivers}
        self._scratch = scratch
        self._files = 0

    def __getitem__(self, client: int) -> dict[str, Tensor]:
        return {name: tensor for part in self._parts[client] for name, tensor in part().items()}

    def __contains__(self, client: object) -> bool:
        return client in self._parts  # reads nothing

    def __iter__(self) -> Iterator[int]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def add(
        self, uploads: Uploads, names: Sequence[str], clients: Sequence[int], weights: RowWeights, *, most: int = 0
    ) -> None:
        """Mix some tensors for those of the clients that receive something.

        Args:
            uploads: of all clients.
            names: the tensors, which all of ``clients`` hold in equal shapes.
            clients: whose tensors are mixed, and for whom.
            weights: of the receivers.
            most: no row has more weights than these that are not zero; 0: all.
        """
        receivers = torch.tensor([row for row, client in enumerate(clients) if client in self._parts], dtype=torch.long)
        if not len(receivers):
            return
        rule, values = uploads.rule, self._stored(uploads, names, clients)
        distances = cache(lambda: distances_between(map(values.read, range(len(values)))))
        for rows in torch.split(receivers, _RECEIVERS):
            mixed = ColumnStore(self._new_file(), len(rows), values.shape[1], width=values.width)
            chosen = rule.reweighed(weights(rows), distances, rows)
            few = most and most_weights(chosen)
            if 0 < few < len(clients) and rule.sums:
                gather_columns(*chosen.topk(few, dim=1), values, mixed.write)
            else:
                for slab in range(len(values)):
                    mixed.write(slab, rule.mixed(chosen, values.read(slab)))
            for place, row in enumerate(rows.tolist()):
                client = clients[row]
                self._parts[client].append(_reading(uploads, names, client, mixed, place))
        values.path.unlink()

    def _stored(self, uploads: Uploads, names: Sequence[str], clients: Sequence[int]) -> ColumnStore:
        first = uploads.matrix(names, clients[:1])
        store = ColumnStore(self._new_file(), len(clients), first.shape[1])
        for row, client in enumerate(clients):
            store.write_client(row, uploads.matrix(names, [client])[0].float())
        return store

    def _new_file(self) -> Path:
        self._files += 1
        return self._scratch / f"columns-{self._files:04d}"


def _reading(
    uploads: Uploads, names: Sequence[str], client: int, mixed: ColumnStore, place: int
) -> Callable[[], dict[str, Tensor]]:
    return lambda: uploads.unflattened(mixed.read_client(place), names, client)
