"""FlexLoRA (Bai et al., NeurIPS 2024, arXiv 2402.11505): LoRA of different ranks, combined as whole updates.

Server, for every adapted linear; client k trains a pair of rank r_k:

    sum_k p_k B_k A_k = U S V^T,   client k receives  B = U[:, :r_k] S[:r_k],  A = V[:, :r_k]^T

The mean of products is exact, unlike FedAvg's product of means; only what a client's rank cannot hold is lost.

Original: one base model, p_k proportional to the number of samples. Adapted: p_k is uniform as for all methods here;
other architectures form groups of their own; the output's scale is alpha / (the adapter's rank) for all. Moments are
kept over rounds as with all methods here, though the received basis is another one each round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.methods.base import Aggregation, ServerState
from fedmosaic.methods.ranks import RankedLora, RankSettings, means_of_others, padded, pair, pairs
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import Budget, Client


@dataclass(frozen=True, kw_only=True)
class FlexLoraSettings(RankSettings):
    """Ranks as for HETLoRA."""


class FlexLora(RankedLora[FlexLoraSettings]):
    """Ranks that differ; the server averages BA and cuts it by SVD."""

    name = "flexlora"
    title = "FlexLoRA"
    Settings = FlexLoraSettings

    def train(self, client: Client, budget: Budget) -> None:
        """Train the client's ranks. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix="shared")

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Send each client the best approximation of the mean update that its rank allows.

        See :meth:`Method.aggregate`.
        """
        downloads = means_of_others(uploads)
        for clients, name in pairs(uploads):
            held = [pair(uploads[client], name) for client in clients]
            svd = svd_of_mean(held)
            for client, (down, _) in zip(clients, held, strict=True):
                downloads[client] |= _best(svd, name, down.shape[0])
        return Aggregation(downloads=downloads)

    def initial_download(
        self, architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads
    ) -> dict[str, Tensor]:
        """A newcomer's start: the mean update in its own rank or the adapter's, of which it takes its first ranks.

        See :meth:`Method.initial_download`.
        """
        peers = Uploads([upload for upload in uploads.values() if upload.architecture == architecture])
        start = next(iter(means_of_others(peers).values()), {})
        for clients, name in pairs(peers):
            svd = svd_of_mean([pair(peers[client], name) for client in clients])
            start |= _best(svd, name, min(shapes[name][0], len(svd[1])))  # zeros beyond could never be trained
        return start


def _best(svd: tuple[Tensor, Tensor, Tensor], name: str, rank: int) -> dict[str, Tensor]:
    """The pair of this rank that is nearest to U S V^T; what the widths of the linear leave of the rank is zero."""
    left, values, right = svd
    cut = {"A": right[:rank], "B": left[:, :rank] * values[:rank]}
    full = padded(cut, {"A": (rank, right.shape[1]), "B": (left.shape[0], rank)})
    return {name.removesuffix("A") + letter: tensor for letter, tensor in full.items()}


def svd_of_mean(held: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the SVD of the mean of B_k A_k, from small matrices: [B_1 .. B_n] [A_1; ..; A_n] / n with both factored.

    Args:
        held: A_k (r_k, in) and B_k (out, r_k).

    Returns:
        U (out, m), S (m,) and V^T (m, in).
    """
    down, up = torch.cat([a for a, _ in held]), torch.cat([b for _, b in held], 1)
    (left, upper), (right, lower) = torch.linalg.qr(up), torch.linalg.qr(down.T)
    u, values, vt = torch.linalg.svd(upper @ lower.T / len(held), full_matrices=False)
    return left @ u, values, vt @ right.T
