"""Preparing images for towers and processors that know one square size only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fedmosaic.models.vision import IMAGE_SIZE

_GREY = (127, 127, 127)


def pad_to_square(image: Image.Image) -> Image.Image:
    """Return an RGB image padded with neutral grey to a square; square images keep their pixels."""
    image = image.convert("RGB")
    edge = max(image.size)
    return image if image.width == image.height else ImageOps.pad(image, (edge, edge), color=_GREY)


def wants_squares(processor: Any) -> bool:
    """Return whether a processor would crop or distort images that are not square (as CLIP's and SigLIP's do).

    Processors that keep the aspect ratio (Qwen2-VL, SmolVLM) give a longest edge instead of a height and width.
    """
    settings = getattr(processor, "image_processor", None)
    size = getattr(settings, "size", None) or {}
    return bool(getattr(settings, "do_center_crop", False)) or ("height" in size and "width" in size)


def square(image: Image.Image, size: int = IMAGE_SIZE) -> Image.Image:
    """Return an RGB image padded with neutral grey to a square and resized to ``size`` pixels."""
    image = pad_to_square(image)
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def normalise(images: list[Image.Image]) -> Tensor:
    """Return the tower's input (n, 3, 128, 128) fp32 for images of any size."""
    pixels = np.stack([np.asarray(square(image)) for image in images])
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
