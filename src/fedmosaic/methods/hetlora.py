"""HETLoRA (Cho et al., EMNLP 2024, arXiv 2401.06432): LoRA of different ranks, truncated and zero-padded.

Client k with rank r_k, r_min <= r_k <= r_max, keeps the first r_k ranks of what it receives and trains

    F_k(A, B) + lambda ||B[:, c:]|| ||A[c:, :]||,   c = floor(gamma r_k);   r_k <- c if that tail has shrunk

Server, for every adapted linear, with zeros beyond r_k:

    p_k ∝ ||B_k A_k||_F,   A = sum_k p_k A_k,   B = sum_k p_k B_k

Original: one base model, ranks 5 to 50, gamma = 0.99; one pair per client in the equations. Adapted: p_k for each
linear by itself; the tail is summed over all linears, since a client has one rank; r_max is the adapter's rank, and the
output's scale is alpha / r_max for all. Other architectures form groups of their own. lambda is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Adapter
from fedmosaic.methods.base import Aggregation, ServerState
from fedmosaic.methods.ranks import RankedLora, RankSettings, means_of_others, padded, pair, pairs, truncated
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import Budget, Client


@dataclass(frozen=True, kw_only=True)
class HetLoraSettings(RankSettings):
    """Values of the paper (docs/method-facts.md#hetlora)."""

    gamma: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Share of the ranks that are not in the tail."""
    tail_penalty: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4
    """lambda."""


class HetLora(RankedLora[HetLoraSettings]):
    """Ranks that differ and shrink; averages weighted by ||BA||."""

    name = "hetlora"
    title = "HETLoRA"
    Settings = HetLoraSettings

    def rank(self, client: Client) -> int:
        """Return the rank that pruning has left. See :meth:`RankedLora.rank`."""
        return int(client.memory.get("rank", super().rank(client)))

    def train(self, client: Client, budget: Budget) -> None:
        """Train with the tail penalised, and prune the tail if it has shrunk. See :meth:`Method.train`."""
        rank = self.rank(client)
        cut = max(int(self.settings.gamma * rank), min(self.settings.r_min, rank))

        def penalty(adapter: Adapter) -> Tensor:
            return self.settings.tail_penalty * tail(adapter, cut)

        before = tail(client.adapter, cut)
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix="shared", penalty=penalty)
        if tail(client.adapter, cut) < before:
            self._prune(client, cut)

    def _prune(self, client: Client, rank: int) -> None:
        client.memory["rank"] = torch.tensor(rank)
        shapes = client.adapter.schema("shared")
        client.adapter.load_slot("shared", padded(truncated(client.snapshot("shared"), rank), shapes))
        moments = client.optimiser.moments()  # what is left of the tail's would move it again
        sizes = {name: tuple(tensor.shape) for name, tensor in moments.items()}
        client.optimiser.load_moments(padded(truncated(moments, rank), sizes))

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average zero-padded pairs, those with larger updates more; each client gets its own ranks.

        See :meth:`Method.aggregate`.
        """
        downloads = means_of_others(uploads)
        for clients, name in pairs(uploads):
            held = [pair(uploads[client], name) for client in clients]
            sizes = torch.stack([product_norm(down, up) for down, up in held])
            shares = sizes / sizes.sum() if sizes.sum() > 0 else torch.full_like(sizes, 1 / len(held))
            for letter, tensors in zip((".A", ".B"), zip(*held, strict=True), strict=True):
                mean = _weighted_sum(tensors, shares)
                for client, (down, _) in zip(clients, held, strict=True):
                    downloads[client] |= truncated({name.removesuffix(".A") + letter: mean}, down.shape[0])
        return Aggregation(downloads=downloads)


def tail(adapter: Adapter, cut: int) -> Tensor:
    """Return the sum over all linears of ||B[:, cut:]|| ||A[cut:, :]||.

    Args:
        adapter: with the slot ``shared``.
        cut: the first rank of the tail.

    Returns:
        ().
    """
    slot = adapter.parameters("shared")
    norms = [
        slot[name.removesuffix(".A") + ".B"][:, cut:].norm() * down[cut:].norm()
        for name, down in slot.items()
        if name.endswith(".A")
    ]
    return torch.stack(norms).sum()


def product_norm(down: Tensor, up: Tensor) -> Tensor:
    """Return ||B A||_F from the small products: tr((B^T B)(A A^T)) is its square.

    Args:
        down: A (r, in).
        up: B (out, r).

    Returns:
        ().
    """
    return ((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt()


def _weighted_sum(tensors: tuple[Tensor, ...], shares: Tensor) -> Tensor:
    shape = tuple(max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True))
    return sum(
        (share * padded({"": tensor}, {"": shape})[""] for tensor, share in zip(tensors, shares, strict=True)),
        start=torch.zeros(shape),
    )
