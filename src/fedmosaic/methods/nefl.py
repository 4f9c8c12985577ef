"""NeFL (Kang et al., 2023, arXiv 2308.07761): nested submodels with learnable step sizes.

A submodel of ratio g has the first ceil(g_W r) ranks of the adapters of the first ceil(g_D L) layers, g_W g_D = g:

    h = W x + s B[:, :r_g] A[:r_g] x,   s learnable and 1 at the start, one per adapted linear;   no adapter beyond

Server, for every element of a *consistent* parameter (A and B) and for the *inconsistent* ones (s):

    A[i, j] = mean over the clients whose submodel contains [i, j],   s = mean over the clients with the same submodel

Original: one network for all, its channels and residual blocks scaled by five ratios 0.2 to 1, Y_{j+1} = Y_j + s_j
F_j(Y_j), norms inconsistent, too, and a client picks a submodel within two tiers of its own in each round. Adapted:
the network is the adapter on a frozen base, width is its rank and depth the layers that it reaches; a client keeps its
tier, by its position in the scenario, since it keeps its model. Other architectures form groups of their own. Unlike
in the original, compute does not fall with the ratio: the base is computed whole, and what is left out as zeros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Adapter, Slot, TensorShapes, is_slot_tensor
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState
from fedmosaic.methods.ranks import (
    elementwise_initial_download,
    mean_over_holders,
    overwritten,
    padded,
    position,
    truncated,
)
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.training import Budget, Client


@dataclass(frozen=True, kw_only=True)
class NeflSettings(MethodSettings):
    """Values of the paper (docs/method-facts.md#nefl)."""

    ratios: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.2, 0.4, 0.6, 0.8, 1.0)
    """Size of each tier's submodel."""
    scaling: Literal["width", "depth", "both"] = "both"
    """What a ratio scales: g_W, g_D, or both by its square root (NeFL-W, -D, -WD)."""


@dataclass(frozen=True)
class Submodel:
    """The first ranks of the adapters of the first layers.

    Attributes:
        layers: how many layers.
        rank: how many ranks.
    """

    layers: int
    rank: int

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the part of an adapter that the submodel contains.

        Args:
            tensors: named ``layer.{i}...``, and a tower adapter's.
        """
        inside = {name: tensor for name, tensor in tensors.items() if self._reaches(name)}
        return truncated(inside, self.rank)

    def _reaches(self, name: str) -> bool:
        kind, place, *_ = name.split(".")
        return kind != "layer" or int(place) < self.layers  # a tower adapter is part of every submodel


class Nefl(Method[NeflSettings]):
    """Nested submodels of one shared LoRA with step sizes."""

    name = "nefl"
    title = "NeFL"
    slots = (Slot("shared", communicated=True),)
    answers_with = "gate"
    gate = "step"
    elastic = True
    heterogeneity = "depths and ranks within an architecture"
    Settings = NeflSettings

    def submodel(self, client: Client) -> Submodel:
        """Return the submodel of a client's tier.

        Args:
            client: the client.
        """
        ratio = self.settings.ratios[position(client) % len(self.settings.ratios)]
        width, depth = {"width": (ratio, 1.0), "depth": (1.0, ratio), "both": (ratio**0.5, ratio**0.5)}[
            self.settings.scaling
        ]
        return Submodel(
            layers=math.ceil(depth * client.adapter.placement.layers), rank=math.ceil(width * client.adapter.shape.rank)
        )

    def receive(self, client: Client, download: Tensors) -> None:
        """Take up what was received; what nobody has begun starts like all in round 1. Zeros outside of the submodel.

        See :meth:`Method.receive`.
        """
        steps = {name: tensor for name, tensor in download.items() if not is_slot_tensor(name)}
        own = self.submodel(client).of(overwritten(client.snapshot("shared"), download))
        client.adapter.load_slot("shared", padded(own, client.adapter.schema("shared")))
        client.adapter.load_gate({**client.adapter.gate_tensors(), **steps})

    def train(self, client: Client, budget: Budget) -> None:
        """Train the submodel and its step sizes. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix="gate", gate=True)

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The submodel. See :meth:`Method.upload`."""
        return self.submodel(client).of({**client.snapshot("shared"), **client.adapter.gate_tensors()})

    def upload_shapes(self, adapter: Adapter) -> TensorShapes:
        """The whole adapter's, step sizes included; submodels have less. See :meth:`Method.upload_shapes`."""
        steps = {name: tuple(tensor.shape) for name, tensor in adapter.gate_tensors().items()}
        return {**adapter.schema("shared"), **steps}

    def download_shapes(self, adapter: Adapter) -> TensorShapes:
        """As for the upload. See :meth:`Method.download_shapes`."""
        return self.upload_shapes(adapter)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average every element over the submodels that contain it, and step sizes over equal submodels.

        See :meth:`Method.aggregate`.
        """
        groups: dict[tuple[object, str], list[int]] = {}
        for client, upload in uploads.items():
            submodel = frozenset((name, tensor.shape) for name, tensor in upload.tensors.items())
            for name in upload.tensors:
                scope = upload.architecture if is_slot_tensor(name) else (upload.architecture, submodel)
                groups.setdefault((scope, name), []).append(client)
        downloads: dict[int, dict[str, Tensor]] = {client: {} for client in uploads}
        for (_, name), clients in groups.items():
            mean = mean_over_holders([uploads[client].tensors[name] for client in clients])
            for client in clients:
                downloads[client][name] = mean[tuple(map(slice, uploads[client].tensors[name].shape))]
        return Aggregation(downloads=downloads)

    def initial_download(
        self, architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads
    ) -> dict[str, Tensor]:
        """A newcomer's start: the mean over the submodels that have an element. See :meth:`Method.initial_download`."""
        return elementwise_initial_download(architecture, shapes, uploads)
