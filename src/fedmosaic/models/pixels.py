"""Preparing images for towers and processors: padding to squares, and limits on long strips."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fedmosaic.models.vision import IMAGE_SIZE

_GREY = (127, 127, 127)
_LARGEST_SQUARE = 2048  # no processor of squares takes larger ones; those of long strips would fill the memory
_LONGEST_STRIP = 50  # sides that differ by more times are padded to it; some processors refuse such images


def fit_image(image: Image.Image, processor: Any) -> Image.Image:
    """Return an RGB image as a processor can take it, padded with neutral grey where it is too long.

    Args:
        image: any mode.
        processor: the model's processor.
    """
    images = getattr(processor, "image_processor", None)
    if images is not None and _wants_squares(images):
        return pad_to_square(image)
    width, height = image.size
    return _pad(image, max(width, -(-height // _LONGEST_STRIP)), max(height, -(-width // _LONGEST_STRIP)))


def pad_to_square(image: Image.Image) -> Image.Image:
    """Return an RGB image padded with neutral grey to a square; square images keep their pixels.

    Args:
        image: any mode; one that is not square and longer than 2048 pixels is scaled down first.
    """
    if max(image.size) > _LARGEST_SQUARE and image.width != image.height:
        image = image.copy()
        image.thumbnail((_LARGEST_SQUARE, _LARGEST_SQUARE))
    return _pad(image, max(image.size), max(image.size))


def wants_squares(processor: Any) -> bool:
    """Return whether a processor would crop or distort images that are not square (as CLIP's and SigLIP's do).

    Processors that keep the aspect ratio give a longest edge instead of a height and width (Qwen2-VL), or make other
    tensors of a wide image than of a square one (tiles: LLaVA 1.6, LLaVA-OneVision, InternVL).

    Args:
        processor: the model's processor.
    """
    images = getattr(processor, "image_processor", None)
    return images is not None and _wants_squares(images)


@lru_cache(maxsize=64)
def _wants_squares(images: Any) -> bool:
    size = getattr(images, "size", None) or {}
    if not getattr(images, "do_center_crop", False) and not ("height" in size and "width" in size):
        return False
    side = 2 * max(int(edge) for edge in (*dict(size).values(), 1) if edge)
    wide, square = (images([Image.new("RGB", (width, side))], return_tensors="pt") for width in (2 * side, side))
    return all(_same(wide[name], square[name]) for name in square)


def _same(one: Any, other: Any) -> bool:
    """Return whether two of a processor's outputs have one shape and, if they are whole numbers, one content."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return bool(one == other)
    return one.shape == other.shape and (one.is_floating_point() or torch.equal(one, other))


def to_square(image: Image.Image, size: int = IMAGE_SIZE) -> Image.Image:
    """Return an RGB image padded with neutral grey to a square and resized.

    Args:
        image: any mode.
        size: side of the result in pixels.
    """
    image = pad_to_square(image)
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def normalise(images: list[Image.Image]) -> Tensor:
    """Return the tower's input (n, 3, 128, 128) fp32.

    Args:
        images: of any size and mode.
    """
    pixels = np.stack([np.asarray(to_square(image)) for image in images])
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128


def _pad(image: Image.Image, width: int, height: int) -> Image.Image:
    image = image.convert("RGB")
    return image if image.size == (width, height) else ImageOps.pad(image, (width, height), color=_GREY)
