"""FLoRA (Wang et al., NeurIPS 2024, arXiv 2409.05976): LoRA of different ranks, stacked and merged into the base model.

Client k starts every round with a new pair of rank r_k, A_k random and B_k = 0, on what all have merged so far:

    h = (W + s D) x + s B_k A_k x                                                   s = alpha / r
    A = [p_1 A_1; ...; p_n A_n],   B = [B_1, ..., B_n]                              the server stacks, and sends both
    D <- D + B A,   B A = sum_k p_k B_k A_k                                         exact, whatever the ranks

Unlike FlexLoRA, which cuts the mean update to the ranks that clients can train, nothing is lost: D grows to any rank,
while what is trained is new in every round. FLoRA pays with a start from B = 0, and with bytes that grow with n.

Original: one base model, all clients in every round, p_k by samples, equal ranks of 16 or ranks from 4 to 64, alpha =
2 r_k, q and v, 3e-4, 3 rounds. Adapted: uniform p_k over the clients of one architecture that trained in the last
round; other architectures form groups of their own; s is that of the largest rank for all. D is what a client
remembers, dense, and is added to the base weights while it trains and answers, so a pass costs no more than in the
original; a base of lower precision than D rounds it. Who has missed a round, or joins, is sent D itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmosaic.adapters import Adapter, TensorShapes, base_changed
from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.methods.base import Aggregation, ServerState
from fedmosaic.methods.ranks import RankedLora, RankSettings, padded, pair, pairs
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.models import BaseModel
from fedmosaic.seeding import generator
from fedmosaic.training import Budget, Client

_MERGED = "merged."


@dataclass(frozen=True, kw_only=True)
class FloraSettings(RankSettings):
    """Ranks as for HETLoRA."""


class Flora(RankedLora[FloraSettings]):
    """A LoRA that starts anew in every round, on the sum of all that was learned before.

    Args:
        settings: the ranks.
    """

    name = "flora"
    title = "FLoRA"
    Settings = FloraSettings

    def __init__(self, settings: FloraSettings) -> None:
        super().__init__(settings)
        self._totals: Tensors = {}

    def check(self, settings: RunSettings) -> None:
        """Refuse means over rounds, as each begins anew, and a tower adapter. See :meth:`Method.check`."""
        if rank := settings.adapter.tower_rank:
            raise SettingsError(f"adapter.tower_rank is {rank}; FLoRA stacks A and B only and needs 0")
        if (rounds := settings.training.averaged_rounds) != 1:
            raise SettingsError(f"training.averaged_rounds is {rounds}; FLoRA starts anew in each round and needs 1")

    # ---- client half

    def receive(self, client: Client, download: Tensors) -> None:
        """Merge what was received, and start a new pair. See :meth:`Method.receive`."""
        if not download:
            super().receive(client, download)
            return
        for name, tensor in download.items():
            linear, _, letter = name.rpartition(".")
            place = f"{_MERGED}{linear}"
            if letter == "D":
                client.memory[place] = tensor.clone()
            elif letter == "A":
                merged = download[f"{linear}.B"] @ tensor
                client.memory[place] = client.memory[place] + merged if place in client.memory else merged
        client.adapter.load_slot("shared", self._new_pairs(client))
        client.optimiser.load_moments({})

    def _new_pairs(self, client: Client) -> dict[str, Tensor]:
        """Return a random A of the client's rank for every linear, zeros beyond, and B of zeros."""
        rank, shapes = self.rank(client), client.adapter.schema("shared")
        downs = {}
        for name, shape in shapes.items():
            if name.endswith(".A"):
                draw = generator(client.settings.seed, "flora", client.id, client.round, name)
                downs[name] = nn.init.kaiming_uniform_(torch.empty(rank, shape[1]), a=math.sqrt(5), generator=draw)
        return padded(downs, shapes)

    def train(self, client: Client, budget: Budget) -> None:
        """Train the new pair on the merged base. See :meth:`Method.train`."""
        with self._merged(client):
            for batch in client.batches(budget):
                client.step(batch, slots=("shared",), mix="shared")

    @contextmanager
    def answering(self, client: Client) -> Iterator[BaseModel]:
        """The merged base with the client's pair. See :meth:`Method.answering`."""
        with self._merged(client), super().answering(client) as model:
            yield model

    def _merged(self, client: Client) -> AbstractContextManager[None]:
        merged = {
            name.removeprefix(_MERGED): tensor for name, tensor in client.memory.items() if name.startswith(_MERGED)
        }
        return base_changed(client.adapter, merged)

    def download_shapes(self, adapter: Adapter) -> TensorShapes:
        """Stacked pairs, of as many clients as there are, or their whole sum. See :meth:`Method.download_shapes`."""
        most = len(self.resources.settings.scenario.clients)
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (rows, columns) in adapter.schema("shared").items():
            linear, _, letter = name.rpartition(".")
            shapes[name] = (most * rows, columns) if letter == "A" else (rows, most * columns)
            if letter == "A":
                shapes[f"{linear}.D"] = (adapter.schema("shared")[f"{linear}.B"][0], columns)
        return shapes

    # ---- server half

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Stack the last round's pairs; who was not there is sent the sum of all. See :meth:`Method.aggregate`."""
        totals, stacks = dict(state.tensors), dict[str, dict[str, Tensor]]()
        new = uploads.since(state.round - 1)
        for clients, name in pairs(new):
            held = [pair(new[client], name) for client in clients]
            down, up = torch.cat([a / len(held) for a, _ in held]), torch.cat([b for _, b in held], 1)
            architecture, linear = new[clients[0]].architecture, name.removesuffix(".A")
            stacks.setdefault(architecture, {}).update({name: down, f"{linear}.B": up})
            place, merged = f"{architecture}|{linear}", up @ down
            totals[place] = totals[place] + merged if place in totals else merged
        self._totals = totals  # for those who join in this round: initial_download() is not given the state
        downloads: dict[int, dict[str, Tensor]] = {}
        for client in uploads.receivers:
            architecture = uploads[client].architecture
            downloads[client] = stacks.get(architecture, {}) if client in new else self._total(architecture)
        return Aggregation(downloads=downloads, state=totals)

    def initial_download(
        self, architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads
    ) -> dict[str, Tensor]:
        """The sum of all that the architecture has learned. See :meth:`Method.initial_download`."""
        return self._total(architecture)

    def _total(self, architecture: str) -> dict[str, Tensor]:
        of = f"{architecture}|"
        return {f"{key.removeprefix(of)}.D": each for key, each in self._totals.items() if key.startswith(of)}
