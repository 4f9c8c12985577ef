"""Where a run's alignment comes from: the package, this machine's cache, or made now from public samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image

from fedmosaic import events
from fedmosaic.alignment import MODES, Alignment, NoAlignment, NoSharedModulesError, align, is_alignment
from fedmosaic.alignment.shipped import DEFAULT, check_mode, find_shipped
from fedmosaic.data.images import ImageSource
from fedmosaic.data.mosaic40.build import PUBLIC_VERSION, PublicBank, open_public
from fedmosaic.data.mosaic40.public import public_samples, public_texts
from fedmosaic.data.sample import Sample
from fedmosaic.models import BaseModel, load_base_model
from fedmosaic.models.residence import Residence

SAMPLES = 5000
"""How many public samples an alignment is made from that is not shipped."""


def alignment_for(
    names: Collection[str],
    architecture: Callable[[str], str],
    *,
    home: Path,
    rank: int,
    blocks: int,
    mode: str = DEFAULT,
    device: torch.device | str = "cpu",
    dtype: str = "float32",
    offload: bool = False,
) -> Alignment | None:
    """Return the alignment of a run's models; what is not shipped is made once and kept in the cache folder.

    A folder is taken as it is, so that its user needs no model of any other architecture.

    Args:
        names: of the run's base models.
        architecture: gives :attr:`BaseModel.architecture` by a model's name.
        home: the cache folder.
        rank: r.
        blocks: number of blocks N_B; 0 for no Co-LoRA.
        mode: one of :data:`~fedmosaic.alignment.MODES`, or the folder of an alignment.
        device: where the models compute if it has to be made.
        dtype: of their weights then.
        offload: whether one model at a time is on the device then.

    Returns:
        None if nothing is to be aligned: mode ``none``, no Co-LoRA, one architecture only, or nothing in common.

    Raises:
        SettingsError: the mode is unknown, or the folder's alignment is for another shape.
        ModelError: the folder's alignment is damaged.
    """
    check_mode(mode)
    if mode == NoAlignment.name or blocks == 0:
        return None
    if mode not in MODES:
        given = Alignment.load(Path(mode))
        given.check(rank=rank, blocks=blocks)
        return given
    architectures = {name: architecture(name) for name in sorted(set(names))} if len(set(names)) > 1 else {}
    wanted = set(architectures.values())
    if len(wanted) < 2:
        return None
    shipped = find_shipped(wanted, rank, blocks) if mode == DEFAULT else None
    if shipped is not None:
        return shipped
    how = [] if dtype == "float32" else [dtype]
    key = json.dumps([sorted(architectures.items()), rank, blocks, mode, SAMPLES, PUBLIC_VERSION, *how])
    folder = home / "alignment" / hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not is_alignment(folder):
            text = (
                f"no bases are shipped for {', '.join(architectures)} (rank {rank}, {blocks} block(s), mode {mode}): "
                f"aligning them now on {SAMPLES:,} public samples, once; kept in {folder}"
            )
            events.emit("note", text=text)
            try:
                make_alignment(
                    list(architectures),
                    home=home,
                    rank=rank,
                    blocks=blocks,
                    mode=mode,
                    samples=SAMPLES,
                    device=device,
                    dtype=dtype,
                    offload=offload,
                ).save(folder)
            except NoSharedModulesError as error:
                events.emit("note", text=f"{error}; each learns from its own architecture only")
                return None
        return Alignment.load(folder)


def make_alignment(
    names: Sequence[str],
    *,
    home: Path,
    rank: int,
    blocks: int,
    mode: str = DEFAULT,
    samples: int = SAMPLES,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: str = "float32",
    offload: bool = False,
) -> Alignment:
    """Return the alignment of base models on the built-in public samples.

    Args:
        names: of base models, as ``load_base_model`` takes them.
        home: the cache folder, with the public pictures and the embedded models' features.
        rank: r.
        blocks: number of blocks N_B.
        mode: see :func:`~fedmosaic.alignment.align`.
        samples: how many public samples.
        seed: of the choice of samples and of random bases.
        device: where the models compute.
        dtype: of their weights.
        offload: whether one model at a time is on the device.

    Raises:
        FedMosaicError: as :func:`load_base_model` and :func:`~fedmosaic.alignment.align` do.
    """
    models, chosen = models_and_public_samples(
        names, samples, home=home, seed=seed, device=device, dtype=dtype, offload=offload
    )
    return align(models, chosen, rank=rank, blocks=blocks, mode=mode, seed=seed)


def models_and_public_samples(
    names: Sequence[str],
    samples: int,
    *,
    home: Path,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: str = "float32",
    offload: bool = False,
) -> tuple[dict[str, BaseModel], list[Sample]]:
    """Return base models and built-in public samples that they are ready to read.

    If any of the models reads text only, so are the samples: all models have to read the same.

    Args:
        names: of base models, as ``load_base_model`` takes them.
        samples: how many public samples.
        home: the cache folder.
        seed: of the choice of samples.
        device: where the models compute.
        dtype: of their weights.
        offload: whether one model at a time is on the device: the one whose hidden states were last asked for.
    """
    public = _Public(home)
    residence = Residence(device, alone=True) if offload else None
    first = "cpu" if offload else device
    models = {
        name: load_base_model(name, images=public, home=home, device=first, dtype=dtype)
        for name in dict.fromkeys(names)
    }
    see = all(model.reads_images for model in models.values())
    chosen = public_samples(public.bank, samples, seed) if see else public_texts(samples, seed)
    for model in models.values():
        model.residence = residence
        if residence is not None:
            residence.enter(model)
        model.prepare(chosen)
    return models, chosen


class _Public(ImageSource):
    """The public pictures; drawn, or opened, when a model first asks for them, which a text model never does."""

    def __init__(self, home: Path) -> None:
        self._home = home

    @cached_property
    def bank(self) -> PublicBank:
        """The pictures and what they show."""
        return open_public(self._home)

    @property
    def collection(self) -> str:
        """The bank's."""
        return self.bank.images.collection

    def digest(self, key: str) -> str:
        """The bank's."""
        return self.bank.images.digest(key)

    def keys(self) -> Sequence[str]:
        """The bank's."""
        return self.bank.images.keys()

    def load(self, key: str) -> Image.Image:
        """One picture of the bank."""
        return self.bank.images.load(key)
