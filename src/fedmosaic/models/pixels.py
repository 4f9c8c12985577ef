"""Preparing images for processors that know one square size only."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageOps

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
