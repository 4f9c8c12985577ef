"""The tower adapter's frozen basis: the same for all clients whose models read the same tower's features.

At full rank it is the identity. Below it is made once of public pictures: the first principal directions of what the
projector reads. Neither depends on the projector or the decoder behind it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor

from fedmosaic import events
from fedmosaic.adapters import TowerSite
from fedmosaic.data.mosaic40.build import PUBLIC_VERSION
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.federation.alignment import models_and_public_samples
from fedmosaic.io import save_tensors
from fedmosaic.models import BaseModel
from fedmosaic.models.interface import Interface

SAMPLES = 1000
"""How many public samples a basis below full rank is made from."""

_BATCH = 32


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


@torch.no_grad()
def interface_inputs(model: BaseModel, interface: Interface, samples: list[Sample]) -> Tensor:
    """Return what a model's projector reads of some samples' pictures.

    Args:
        model: without an adapter.
        interface: the model's.
        samples: with pictures.

    Returns:
        (N, d) in float64.
    """
    found: list[Tensor] = []
    linear = model.module.get_submodule(interface.path)
    handle = linear.register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0].reshape(-1, interface.features).double().cpu())
    )
    try:
        for start in range(0, len(samples), _BATCH):
            model.hidden_states(model.collate(samples[start : start + _BATCH], with_answers=False))
    finally:
        handle.remove()
    return torch.cat(found)


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
