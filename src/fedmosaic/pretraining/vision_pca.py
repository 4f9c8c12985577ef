"""Fitting the tower's fixed projection on public images: ``python -m fedmosaic.pretraining.vision_pca``.

The pooled maps (4 positions of each image, 1728 channels) are standardised, the two groups of channels (final and
middle map) are given equal total weight, and the 256 leading principal components are whitened. The result is shipped
with fedmosaic.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from fedmosaic.data.mosaic40.build import open_public
from fedmosaic.models.pixels import normalise
from fedmosaic.models.vision import FEATURE_SIZE, HEAD_CHANNELS, RAW_CHANNELS
from fedmosaic.models.vision_weights import PROJECTION_FILE, load_tower
from fedmosaic.seeding import rng

_BATCH = 16
_FLOOR = 0.02  # share of the largest component's deviation added to all, so that noise is not blown up


def pooled_maps(images: Sequence[Image.Image]) -> Tensor:
    """Return the tower's maps before the projection (4 n, 1728).

    Args:
        images: n images of any size.
    """
    tower = load_tower(projection=None)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            maps = tower.raw(normalise(list(images[start : start + _BATCH])))
            rows.append(F.adaptive_avg_pool2d(maps, 2).flatten(2).transpose(1, 2).flatten(0, 1))
    return torch.cat(rows)


def fit(maps: Tensor) -> dict[str, Tensor]:
    """Return the whitened principal components of maps.

    Args:
        maps: (rows, 1728).

    Returns:
        ``mean``, ``std`` (1728) with the groups' weights inside ``std``, ``projection`` (256, 1728) with orthonormal
        rows in fp16, ``scale`` (256): features are ``projection @ ((x - mean) / std) / scale``.
    """
    groups = torch.full((RAW_CHANNELS,), float(RAW_CHANNELS - HEAD_CHANNELS)).sqrt()
    groups[:HEAD_CHANNELS] = HEAD_CHANNELS**0.5
    mean = maps.mean(0)
    std = (maps.std(0) + 1e-3) * groups
    standard = (maps - mean) / std
    _, vectors = torch.linalg.eigh((standard.T @ standard).double())
    projection = vectors.flip(1)[:, :FEATURE_SIZE].T.to(torch.float16)
    deviation = (standard @ projection.float().T).std(0)
    scale = deviation + _FLOOR * deviation.max()
    return {"mean": mean, "std": std, "projection": projection.contiguous(), "scale": scale}


def main() -> None:
    """Fit on public images of the built-in benchmark and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="cache folder; the benchmark is built there if needed")
    parser.add_argument("--images", type=int, default=6000, help="how many public images to use")
    parser.add_argument("--out", type=Path, default=PROJECTION_FILE, help="the file to write")
    arguments = parser.parse_args()
    images = open_public(arguments.home).images
    keys = rng(0, "projection").permutation(sorted(images.keys()))[: arguments.images]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(fit(pooled_maps([images.load(str(key)) for key in keys])), arguments.out)


if __name__ == "__main__":
    main()
