"""The tower adapter's frozen basis: the same for all clients whose models read the same tower's features.

At full rank it is the identity. Below it is made once of public pictures: the first principal directions of what the
projector reads. Neither depends on the projector or the decoder behind it. Clients with different towers can share one
adapter: each tower has a basis then in which it agrees with the others (:mod:`fedmosaic.alignment.towers`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor

from fedmosaic import events
from fedmosaic.adapters import TowerSite
from fedmosaic.alignment.towers import agreement, paired_rows, shared_bases
from fedmosaic.data.mosaic40.build import PUBLIC_VERSION
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.federation.alignment import models_and_public_samples
from fedmosaic.io import save_tensors
from fedmosaic.models import BaseModel
from fedmosaic.models.base import Batch
from fedmosaic.models.interface import Interface
from fedmosaic.models.parameter_linear import LINEAR

SAMPLES = 1000
"""How many public samples a basis below full rank is made from."""

_BATCH = 32
_HELD_OUT = 4  # every fourth picture says how well unlike towers agree, and makes no basis


def tower_site(
    base: BaseModel, rank: int, *, home: Path, device: torch.device | str = "cpu", dtype: str = "float32"
) -> TowerSite | None:
    """Return where a model's tower adapter goes, and its basis; what is made of pictures is kept in the cache folder.

    Args:
        base: the base model, without an adapter.
        rank: r; 0 for no tower adapter.
        home: the cache folder.
        device: where the model computes if a basis has to be made.
        dtype: of its weights then.

    Returns:
        None for text models, and for rank 0.

    Raises:
        SettingsError: the rank is larger than the width of the tower's features.
        ModelError: the model's projector is of a kind that is not known.
    """
    interface = base.interface if rank and base.reads_images else None
    if interface is None:
        return None
    if rank > interface.features:
        raise SettingsError(
            f"adapter.tower_rank={rank}, but the projector of {base.name!r} reads features of width "
            f"{interface.features}; set {interface.features} or less"
        )
    if rank == interface.features:
        return TowerSite(interface, torch.eye(rank))
    return TowerSite(interface, _kept_directions(base.name, interface, home=home, device=device, dtype=dtype)[:rank])


def _kept_directions(name: str, interface: Interface, *, home: Path, device: torch.device | str, dtype: str) -> Tensor:
    """Return all principal directions, (d, d), from the cache folder if they are there."""
    how = "" if dtype == "float32" else f" {dtype}"
    key = hashlib.blake2b(f"{interface.tower} {SAMPLES} {PUBLIC_VERSION}{how}".encode(), digest_size=8).hexdigest()
    path = home / "tower" / f"{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            text = f"principal directions of the vision tower of {name} on {SAMPLES:,} public samples, once; kept in"
            events.emit("note", text=f"{text} {path.parent}")
            models, samples = models_and_public_samples([name], SAMPLES, home=home, device=device, dtype=dtype)
            rows = interface_inputs(models[name], interface, samples)
            save_tensors(path, {"directions": principal_directions(rows)})
        return load_file(path)["directions"]


def aligned_site(
    base: BaseModel,
    rank: int,
    towers: Mapping[str, str],
    *,
    home: Path,
    device: torch.device | str = "cpu",
    dtype: str = "float32",
) -> TowerSite | None:
    """Return where a model's tower adapter goes whose P and Q mean the same with any of several unlike towers.

    Args:
        base: the base model, without an adapter.
        rank: r; 0 for no tower adapter.
        towers: of all the run's models that read images: tower -> name of a base model with it.
        home: the cache folder, where the bases are kept.
        device: where the models compute if the bases have to be made.
        dtype: of their weights then.

    Returns:
        None for text models, and for rank 0; with one tower only what :func:`tower_site` returns.

    Raises:
        SettingsError: the rank is larger than the width of a tower's features.
        ModelError: the model's projector is of a kind that is not known.
    """
    interface = base.interface if rank and base.reads_images else None
    if interface is None or len(towers) < 2:
        return tower_site(base, rank, home=home, device=device, dtype=dtype)
    name = hashlib.blake2b(" ".join(sorted(towers)).encode(), digest_size=6).hexdigest()
    if interface.path.endswith(f".{LINEAR}"):
        told = "its clients take over offsets of other architectures, with which they cannot be exported"
        events.emit("note", text=f"base model {base.name}: with adapter.align_towers {told}")
    bases = _kept_shared(name, rank, towers, home=home, device=device, dtype=dtype)
    return TowerSite(replace(interface, tower=name), bases[interface.tower])


def _kept_shared(
    name: str, rank: int, towers: Mapping[str, str], *, home: Path, device: torch.device | str, dtype: str
) -> dict[str, Tensor]:
    """Return the bases of unlike towers, (r, d) each, from the cache folder if they are there."""
    how = "" if dtype == "float32" else f" {dtype}"
    key = hashlib.blake2b(f"{name} {rank} {SAMPLES} {PUBLIC_VERSION}{how}".encode(), digest_size=8).hexdigest()
    path = home / "tower" / f"shared-{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            models, samples = models_and_public_samples(
                list(towers.values()), SAMPLES, home=home, device=device, dtype=dtype
            )
            single = [sample for sample in samples if len(sample.images) == 1]
            features = {tower: features_by_picture(models[model], single) for tower, model in towers.items()}
            bases, agreed = _aligned(features, rank)
            text = f"shared coordinates of {len(towers)} vision towers, rank {rank}, of {len(single):,} public pictures"
            told = f"on held-out ones their mean cosine is {agreed:.2f} (1: the towers agree)"
            events.emit("note", text=f"{text}; {told}; kept in {path.parent}")
            save_tensors(path, bases)
        return load_file(path)


def _aligned(features: Mapping[str, Sequence[Tensor]], rank: int) -> tuple[dict[str, Tensor], float]:
    """Return the towers' bases, and how well they agree on pictures that these are not made of."""

    def rows(*, held_out: bool) -> dict[str, Tensor]:
        return paired_rows(
            {
                tower: [tokens for i, tokens in enumerate(found) if (i % _HELD_OUT == 0) == held_out]
                for tower, found in features.items()
            }
        )

    bases = shared_bases(rows(held_out=False), rank)
    return bases, agreement(rows(held_out=True), bases)


def features_by_picture(model: BaseModel, samples: Sequence[Sample]) -> list[Tensor]:
    """Return what a model's projector reads of each sample's picture.

    Args:
        model: with an interface, without an adapter.
        samples: with one picture each.

    Returns:
        (T, d) in float64 for each sample; T may differ.

    Raises:
        ModelError: the model's projector is of a kind that is not known.
    """
    interface = model.interface
    assert interface is not None  # the caller chose models that read images
    found: list[Tensor] = []
    for batch, rows in _read(model, interface, samples):
        counts = torch.bincount(interface.sequences(batch.input_ids).cpu(), minlength=len(batch.input_ids))
        found += torch.split(rows, counts.tolist())
    return found


def interface_inputs(model: BaseModel, interface: Interface, samples: list[Sample]) -> Tensor:
    """Return what a model's projector reads of some samples' pictures.

    Args:
        model: without an adapter.
        interface: the model's.
        samples: with pictures.

    Returns:
        (N, d) in float64.
    """
    return torch.cat([rows for _, rows in _read(model, interface, samples)])


@torch.no_grad()
def _read(model: BaseModel, interface: Interface, samples: Sequence[Sample]) -> Iterator[tuple[Batch, Tensor]]:
    """Yield batches, each with what the projector reads of it, (N, d) in float64."""
    found: list[Tensor] = []
    linear = model.module.get_submodule(interface.path)
    handle = linear.register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0].reshape(-1, interface.features).double().cpu())
    )
    try:
        for start in range(0, len(samples), _BATCH):
            batch = model.collate(samples[start : start + _BATCH], with_answers=False)
            model.hidden_states(batch)
            if found:
                yield batch, torch.cat(found)
            found.clear()
    finally:
        handle.remove()


def principal_directions(rows: Tensor) -> Tensor:
    """Return the eigenvectors of the rows' covariance, largest variance first, each with its largest entry positive.

    Args:
        rows: (N, d) in float64.

    Returns:
        (d, d) with orthonormal rows, in float32.
    """
    directions = torch.linalg.eigh(torch.cov(rows.t())).eigenvectors.flip(1).t()
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    signed: Tensor = directions * largest.sign()
    return signed.float().contiguous()
