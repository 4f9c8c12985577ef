"""Relevance and mixing for more clients than fit into memory.

    weights  block of clients by block: N x k numbers at most, or the N x N of all weights
    values   slab of columns by slab, each read once from disk in one piece, mixed, and handed on

What is in memory is the weights, one block of similarities, and one slab before and after mixing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedmosaic.relevance.weights import gather, relevance_weights, unit_rows, weighted_sums

_BLOCK_VALUES = 2**23
_SLAB_BYTES = 2**25


class ColumnStore:
    """A matrix (N, V) of float32 on disk, for N clients' values: written by client, read and written by columns.

    The file holds slabs (N, c) one after another, so that a slab is read in one piece. It is what the values are in
    memory order, without a header, and belongs to the process that made it.

    Args:
        path: the file; made at full size.
        clients: N.
        values: V.
        width: c, columns of a slab. Default: those of 32 MB.

    Raises:
        ValueError: there is nothing to hold.
    """

    def __init__(self, path: Path, clients: int, values: int, *, width: int | None = None) -> None:
        if clients < 1 or values < 1:
            raise ValueError(f"a store of {clients} x {values} values holds nothing; both must be at least 1")
        self.shape = (clients, values)
        self.width = min(values, width or max(1, _SLAB_BYTES // (4 * clients)))
        self.path = path
        with path.open("wb") as file:
            file.truncate(4 * clients * values)

    def __len__(self) -> int:
        """Return the number of slabs."""
        return math.ceil(self.shape[1] / self.width)

    def columns(self, slab: int) -> slice:
        """Return the columns that a slab holds.

        Args:
            slab: its number, from 0.
        """
        return slice(slab * self.width, min(self.shape[1], (slab + 1) * self.width))

    def read(self, slab: int) -> Tensor:
        """Return one slab, (N, c).

        Args:
            slab: its number, from 0.
        """
        columns = self.columns(slab)
        width = columns.stop - columns.start
        offset = 4 * self.shape[0] * columns.start
        found = np.fromfile(self.path, np.float32, self.shape[0] * width, offset=offset)
        return torch.from_numpy(found.reshape(self.shape[0], width))

    def write(self, slab: int, values: Tensor) -> None:
        """Store one slab.

        Args:
            slab: its number, from 0.
            values: (N, c).
        """
        with self.path.open("r+b") as file:
            file.seek(4 * self.shape[0] * self.columns(slab).start)
            file.write(_bytes(values))

    def write_client(self, client: int, values: Tensor) -> None:
        """Store what one client uploaded.

        Args:
            client: its row, from 0.
            values: (V,).
        """
        row = _bytes(values)
        with self.path.open("r+b") as file:
            for columns, offset in self._pieces(client):
                os.pwrite(file.fileno(), row[4 * columns.start : 4 * columns.stop], offset)

    def read_client(self, client: int) -> Tensor:
        """Return what one client receives, (V,).

        Args:
            client: its row, from 0.
        """
        with self.path.open("rb") as file:
            row = b"".join(
                os.pread(file.fileno(), 4 * (c.stop - c.start), offset) for c, offset in self._pieces(client)
            )
        return torch.from_numpy(np.frombuffer(row, np.float32).copy())

    def _pieces(self, client: int) -> Iterator[tuple[slice, int]]:
        for slab in range(len(self)):
            columns = self.columns(slab)
            yield columns, 4 * (self.shape[0] * columns.start + client * (columns.stop - columns.start))


def _bytes(values: Tensor) -> bytes:
    return values.contiguous().numpy().tobytes()


def all_weights(sketches: Tensor, *, temperature: float) -> Tensor:
    """Return :func:`relevance_weights` of sketches without a second matrix of their size.

    Args:
        sketches: (N, k).
        temperature: tau > 0.

    Returns:
        (N, N).
    """
    weights = sketches.new_empty(len(sketches), len(sketches))
    for rows, block in _blocks(sketches, temperature, most=0):
        weights[rows] = block
    return weights


def nearest(sketches: Tensor, *, temperature: float, most: int) -> tuple[Tensor, Tensor]:
    """Return each client's most similar peers and their weights, without an N x N matrix.

    Args:
        sketches: (N, size).
        temperature: tau > 0.
        most: k, the number of peers, from 1 to N - 1.

    Returns:
        Weights (N, k), and the peers' rows (N, k).
    """
    weights = sketches.new_empty(len(sketches), most)
    clients = torch.empty(len(sketches), most, dtype=torch.int64)
    for rows, block in _blocks(sketches, temperature, most):
        weights[rows], clients[rows] = block.topk(most, dim=1)
    return weights, clients


def _blocks(sketches: Tensor, temperature: float, most: int) -> Iterator[tuple[slice, Tensor]]:
    unit = unit_rows(sketches)
    height = max(1, _BLOCK_VALUES // len(unit))
    for start in range(0, len(unit), height):
        rows = slice(start, min(len(unit), start + height))
        similarity = (unit[rows] @ unit.T).clamp_(-1.0, 1.0)
        itself = torch.arange(rows.start, rows.stop)
        yield rows, relevance_weights(similarity, temperature=temperature, most=most, itself=itself)


Sink = Callable[[int, Tensor], object]
"""Takes a slab's number and the mixed slab (M, c): :meth:`ColumnStore.write`, or whatever sends it on."""


def mix_columns(weights: Tensor, values: ColumnStore, into: Sink) -> None:
    """Compute :func:`weighted_sums` slab by slab.

    Args:
        weights: (M, N).
        values: of N clients.
        into: called with each slab's number and its result (M, c).
    """
    for slab in range(len(values)):
        into(slab, weighted_sums(weights, values.read(slab)))


def gather_columns(weights: Tensor, clients: Tensor, values: ColumnStore, into: Sink) -> None:
    """Compute :func:`gather` slab by slab.

    Args:
        weights: (M, k).
        clients: (M, k) rows of ``values``.
        values: of N clients.
        into: called with each slab's number and its result (M, c).
    """
    for slab in range(len(values)):
        into(slab, gather(weights, clients, values.read(slab)))
