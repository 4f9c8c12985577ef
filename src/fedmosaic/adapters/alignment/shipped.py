"""Alignments that need not be made: those shipped with the package, and those made before on this machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from fedmosaic.adapters.alignment.align import align
from fedmosaic.adapters.alignment.result import RECORD, Alignment
from fedmosaic.data.mosaic40.build import open_public
from fedmosaic.data.mosaic40.public import public_samples
from fedmosaic.models import load_base_model
from fedmosaic.models.vision_weights import ASSETS

SHIPPED = ASSETS / "alignment"
SAMPLES = 5000


def find_shipped(architectures: Collection[str], rank: int, blocks: int) -> Alignment | None:
    """Return the shipped alignment that holds all these architectures, or None.

    Shipped are the embedded models' at the default mode; the command that made them stands in the record's folder.

    Args:
        architectures: :attr:`BaseModel.architecture` of the models of a run.
        rank: r.
        blocks: number of blocks N_B.
    """
    for record in sorted(SHIPPED.glob(f"*/{RECORD}")):
        alignment = Alignment.load(record.parent)
        fits = set(architectures) <= set(alignment.architectures.values())
        if fits and (alignment.rank, alignment.blocks) == (rank, blocks):
            return alignment
    return None


def make_alignment(
    names: Sequence[str],
    *,
    home: Path,
    rank: int,
    blocks: int,
    mode: str = "joint",
    samples: int = SAMPLES,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Alignment:
    """Align base models on the built-in public samples.

    Args:
        names: of base models, as ``load_base_model`` takes them.
        home: the cache folder, with the public pictures and the embedded models' features.
        rank: r.
        blocks: number of blocks N_B.
        mode: see :func:`~fedmosaic.adapters.alignment.align`.
        samples: how many public samples.
        seed: of the choice of samples and of random bases.
        device: where the models compute.

    Raises:
        FedMosaicError: as :func:`load_base_model` and :func:`~fedmosaic.adapters.alignment.align` do.
    """
    bank = open_public(home)
    chosen = public_samples(bank, samples, seed)
    models = {
        name: load_base_model(name, images=bank.images, home=home, device=device) for name in dict.fromkeys(names)
    }
    for model in models.values():
        model.prepare(chosen)
    return align(models, chosen, rank=rank, blocks=blocks, mode=mode, seed=seed)
