"""LoRA pairs of different ranks: prefixes, zero padding, and each client's rank. Not a method by itself.

A pair of rank r_k is held in the adapter's slot of rank r >= r_k with the rows of A and the columns of B beyond r_k at
zero. There both gradients are zero, too, so training keeps them there; only the prefix is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import Slot, TensorShapes, is_slot_tensor
from fedmosaic.errors import SettingsError, WireError
from fedmosaic.methods.base import Method, MethodSettings
from fedmosaic.methods.uploads import Tensors, Upload, Uploads
from fedmosaic.training import Client


@dataclass(frozen=True, kw_only=True)
class RankSettings(MethodSettings):
    """Which client has which rank."""

    ranks: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """By the client's position in the scenario, repeated if too short; empty: evenly from ``r_min`` to all."""
    r_min: Annotated[int, Field(ge=1)] = 5
    """Smallest rank (HETLoRA's paper: 5 to 50)."""


R = TypeVar("R", bound=RankSettings)


class RankedLora(Method[R]):
    """One shared LoRA of which every client has as many ranks as its settings say."""

    slots = (Slot("shared", communicated=True),)
    answers_with = "shared"
    elastic = True
    heterogeneity = "ranks within an architecture"

    def rank(self, client: Client) -> int:
        """The client's rank r_k.

        Args:
            client: the client.

        Returns:
            r_k, at most the adapter's rank.

        Raises:
            SettingsError: it is larger than the adapter's.
        """
        settings, most, place = self.settings, client.adapter.shape.rank, position(client)
        if settings.ranks:
            rank = settings.ranks[place % len(settings.ranks)]
            if rank > most:
                raise SettingsError(f"method.ranks has {rank}, but adapter.rank is {most}; no rank can be larger")
            return rank
        least, last = min(settings.r_min, most), len(client.settings.scenario.clients) - 1
        return most if last == 0 else round(least + (most - least) * place / last)

    def receive(self, client: Client, download: Tensors) -> None:
        """Take up what was received; ranks that nobody has begun start like all in round 1. Zeros beyond the client's.

        See :meth:`Method.receive`.
        """
        whole = truncated(overwritten(client.snapshot("shared"), download), self.rank(client))
        client.adapter.load_slot("shared", padded(whole, client.adapter.schema("shared")))

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The client's ranks. See :meth:`Method.upload`."""
        return truncated(client.snapshot("shared"), self.rank(client))

    def check_upload(self, upload: Upload) -> None:
        """Refuse an A and a B of different ranks, or one without the other. See :meth:`Method.check_upload`."""
        for name in upload.tensors:
            if is_slot_tensor(name) and name.endswith((".A", ".B")):
                pair(upload, f"{name[:-1]}A")

    def initial_download(
        self, architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads
    ) -> dict[str, Tensor]:
        """A newcomer's start: the mean over those who have an element. See :meth:`Method.initial_download`."""
        return elementwise_initial_download(architecture, shapes, uploads)


def position(client: Client) -> int:
    """Return a client's position in the scenario, from 0.

    Args:
        client: the client.
    """
    return [spec.id for spec in client.settings.scenario.clients].index(client.id)


def truncated(tensors: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Return the first ranks of LoRA pairs: rows of each A, columns of each B; all else stays as it is.

    Args:
        tensors: A and B by name, or their moments.
        rank: how many ranks.
    """

    def prefix(name: str, tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or not name.endswith((".A", ".B")):
            return tensor
        return tensor[:rank] if name.endswith(".A") else tensor[:, :rank]

    return {name: prefix(name, tensor) for name, tensor in tensors.items()}


def padded(tensors: Mapping[str, Tensor], shapes: TensorShapes) -> dict[str, Tensor]:
    """Return tensors with zeros beyond the given values.

    Args:
        tensors: the given values; a name may be missing.
        shapes: names and shapes of the result.
    """
    return overwritten({name: torch.zeros(shape) for name, shape in shapes.items()}, tensors)


def overwritten(tensors: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors whose first elements are the given values; all else stays as it is.

    Args:
        tensors: by name.
        given: the values, not larger than the tensor of the name; a name may be missing, and others are left out.
    """
    whole = {name: tensor.clone() for name, tensor in tensors.items()}
    for name in whole.keys() & given.keys():
        whole[name][tuple(map(slice, given[name].shape))] = given[name]
    return whole


def mean_over_holders(tensors: Sequence[Tensor]) -> Tensor:
    """Return the mean of each element over the tensors that are large enough to contain it.

    Args:
        tensors: of the same number of dimensions.
    """
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    total, holders = torch.zeros(shape), torch.zeros(shape)
    for tensor in tensors:
        inside = tuple(map(slice, tensor.shape))
        total[inside] += tensor
        holders[inside] += 1
    return total / holders.clamp(min=1)


def means_of_others(uploads: Uploads) -> dict[int, dict[str, Tensor]]:
    """Return the uniform mean of what has no ranks that differ, a tower adapter's P and Q, within each architecture.

    Args:
        uploads: of a round.

    Returns:
        By client.
    """
    downloads: dict[int, dict[str, Tensor]] = {client: {} for client in uploads}
    for clients, names in uploads.comparable(across_architectures=False):
        for name in names:
            if not name.endswith((".A", ".B")):
                mean = uploads.stack(name, clients).mean(0)
                downloads |= {client: {**downloads[client], name: mean} for client in clients}
    return downloads


def elementwise_initial_download(
    architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads
) -> dict[str, Tensor]:
    """Return the tensors from which a newcomer, whose own may be smaller, takes its part.

    Args:
        architecture: the newcomer's.
        shapes: by name, of the whole adapter.
        uploads: the others'.
    """
    peers = [upload.tensors for upload in uploads.values() if upload.architecture == architecture]
    held = {name: [tensors[name] for tensors in peers if name in tensors] for name in shapes}
    return {name: mean_over_holders(tensors) for name, tensors in held.items() if tensors}


def pair(upload: Upload, name: str) -> tuple[Tensor, Tensor]:
    """Return one client's A and B of a linear.

    Args:
        upload: the client's.
        name: of A.

    Returns:
        A (r, in) and B (out, r).

    Raises:
        WireError: there is no A or no B, or their ranks differ.
    """
    down, up = upload.tensors.get(name), upload.tensors.get(name.removesuffix(".A") + ".B")
    if down is None or up is None or down.shape[0] != up.shape[1]:
        first = "no A" if down is None else f"an A of rank {down.shape[0]}"
        other = "no B" if up is None else f"a B of rank {up.shape[1]}"
        raise WireError(f"client {upload.client} sent for {name!r} {first} with {other}; expected equal ranks")
    return down, up


def pairs(uploads: Uploads) -> list[tuple[list[int], str]]:
    """Return the clients that hold each A, for every A of every architecture.

    Args:
        uploads: of a round.

    Returns:
        Clients, and the name of A.
    """
    return [
        (clients, name)
        for clients, names in uploads.comparable(across_architectures=False)
        for name in names
        if name.endswith(".A")
    ]
