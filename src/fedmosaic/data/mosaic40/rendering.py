"""Visual domains: draws one or more icons as a 64 x 64 image in the style of a domain."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from fedmosaic.data.mosaic40 import sprites
from fedmosaic.data.mosaic40.catalog import PUBLIC, TEST, TRAIN, VALIDATION
from fedmosaic.errors import SettingsError

SIDE = 64  # pixels of an image of the bank

# Domain -> the vendor whose drawing is used, unchanged or strongly changed.
ICON_DOMAINS = {
    "openmoji": "colour",
    "twemoji": "flat",
    "line": "line",
    "blueprint": "line",
    "pixel": "flat",
    "photo": "colour",
    "night": "flat",
    "stencil": "flat",
}
# Columns of the sample photographs (640 wide) that each part may cut its backgrounds from.
_PHOTO_COLUMNS = {PUBLIC: (0, 288), TRAIN: (288, 448), VALIDATION: (448, 544), TEST: (544, 640)}


@dataclass(frozen=True, slots=True)
class Placed:
    """One icon on an image.

    Attributes:
        code: the icon's code points.
        left: left edge of its box, in pixels.
        top: upper edge of its box, in pixels.
        side: width and height of its box, in pixels.
        turn: rotation in degrees, counter-clockwise.
        mirrored: whether left and right are swapped.
    """

    code: str
    left: int
    top: int
    side: int
    turn: int = 0
    mirrored: bool = False


def centred(code: str, side: int = sprites.SIZE, *, turn: int = 0, mirrored: bool = False) -> Placed:
    """Return one icon in the middle of the image.

    Args:
        code: the icon's code points.
        side: width and height in pixels.
        turn: rotation in degrees, counter-clockwise.
        mirrored: whether left and right are swapped.
    """
    corner = (SIDE - side) // 2
    return Placed(code, corner, corner, side, turn, mirrored)


def draw(domain: str, icons: Sequence[Placed], *, part: str, seed: int) -> Image.Image:
    """Draw icons in one visual domain.

    Args:
        domain: a key of :data:`ICON_DOMAINS`.
        icons: what to draw and where.
        part: whose photographs the background may be cut from.
        seed: chooses the background; two images with the same seed have the same background.

    Returns:
        An RGB image of 64 x 64 pixels.

    Raises:
        SettingsError: the domain is unknown.
    """
    if domain not in ICON_DOMAINS:
        raise SettingsError(f"unknown visual domain {domain!r}; known: {', '.join(ICON_DOMAINS)}")
    image = _background(domain, part, seed)
    for placed in icons:
        image.alpha_composite(*_drawing(domain, placed))
    finished = image.convert("RGB")
    if domain == "pixel":
        small = finished.resize((16, 16), Image.Resampling.BOX)
        return ImageOps.posterize(small, 4).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return finished


def _background(domain: str, part: str, seed: int) -> Image.Image:
    if domain == "photo":
        return _photo_patch(part, seed)
    plain = {"blueprint": "#1d4e89", "pixel": "#9db4c9", "night": "#0c1022", "stencil": "#c9a26b"}
    image = Image.new("RGBA", (SIDE, SIDE), plain.get(domain, "white"))
    if domain == "blueprint":
        pen = ImageDraw.Draw(image)
        for at in range(3, SIDE, 8):
            pen.line((at, 0, at, SIDE), fill="#2f649f")
            pen.line((0, at, SIDE, at), fill="#2f649f")
    return image


def _drawing(domain: str, placed: Placed) -> tuple[Image.Image, tuple[int, int]]:
    """Return the icon in the domain's colours, and its corner; parts beyond the image's edge are cut off."""
    side = int(placed.side * 0.82) if domain == "photo" else placed.side
    inset = (placed.side - side) // 2
    sprite = _recoloured(domain, placed.code)
    if placed.mirrored:
        sprite = ImageOps.mirror(sprite)
    if placed.turn:
        sprite = sprite.rotate(placed.turn)
    sprite = sprite.resize((side, side), Image.Resampling.LANCZOS)
    if domain == "photo":
        sprite = _sticker(sprite)
    left, top = placed.left + inset, placed.top + inset
    cut_left, cut_top = max(0, -left), max(0, -top)
    sprite = sprite.crop((cut_left, cut_top, min(side, SIDE - left), min(side, SIDE - top)))
    return sprite, (left + cut_left, top + cut_top)


@cache
def _recoloured(domain: str, code: str) -> Image.Image:
    sprite = sprites.sprite(ICON_DOMAINS[domain], code)
    if domain in {"line", "blueprint"}:
        return _one_ink(sprite, "#e6f0ff" if domain == "blueprint" else "#101010", gain=1.3)
    if domain == "stencil":
        return _stencil(sprite, "#3a2412")
    if domain == "night":
        alpha = sprite.getchannel("A")
        dim = Image.blend(sprite.convert("RGB"), Image.new("RGB", sprite.size, "#101c5c"), 0.55)
        return Image.merge("RGBA", (*dim.split(), alpha))
    return sprite


def _sticker(sprite: Image.Image) -> Image.Image:
    """Return the drawing with a white outline, which keeps dark things visible on dark photographs."""
    alpha = sprite.getchannel("A").point(lambda value: 255 * (value > 100))
    rim = Image.new("RGBA", sprite.size, "white")
    rim.putalpha(ImageChops.lighter(alpha, alpha.filter(ImageFilter.MaxFilter(3))))
    rim.alpha_composite(sprite)
    return rim


def _one_ink(sprite: Image.Image, ink: str, *, gain: float) -> Image.Image:
    """Return the drawing's shape in a single colour."""
    alpha = np.asarray(sprite.getchannel("A"), dtype=np.float32)
    return _filled(np.clip(alpha * gain, 0, 255), ink)


def _stencil(sprite: Image.Image, ink: str) -> Image.Image:
    """Return the drawing's darker parts and its outline in a single colour."""
    pixels = np.asarray(sprite, dtype=np.float32)
    solid = pixels[..., 3] > 128
    gray = pixels[..., :3].mean(axis=2)
    inner = Image.fromarray(np.pad(solid, 2)).convert("L").filter(ImageFilter.MinFilter(5))
    rim = solid & ~np.asarray(inner, dtype=bool)[2:-2, 2:-2]
    dark = solid & (gray < _threshold(gray[solid]))
    return _filled(255.0 * (rim | dark), ink)


def _threshold(values: np.ndarray) -> float:
    """Return the grey level that splits values into two groups of least variance (Otsu 1979)."""
    levels = np.linspace(values.min(), values.max(), 33)[1:-1]
    shares = np.array([(values < level).mean() for level in levels])
    between = [
        share * (1 - share) * (values[values < level].mean() - values[values >= level].mean()) ** 2
        if 0 < share < 1
        else 0.0
        for level, share in zip(levels, shares, strict=True)
    ]
    return float(levels[int(np.argmax(between))])


def _filled(alpha: np.ndarray, ink: str) -> Image.Image:
    flat = Image.new("RGBA", alpha.shape[::-1], ink)
    flat.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return flat


@cache
def _photographs() -> tuple[Image.Image, ...]:
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 - takes a second to import, needed to build only

    return tuple(Image.fromarray(image) for image in load_sample_images().images)


def _photo_patch(part: str, seed: int) -> Image.Image:
    rng = random.Random(seed)
    photo = rng.choice(_photographs())
    first, last = _PHOTO_COLUMNS[part]
    side = rng.randint(64, 96)
    left, top = rng.randint(first, last - side), rng.randint(0, photo.height - side)
    return photo.crop((left, top, left + side, top + side)).resize((SIDE, SIDE)).convert("RGBA")


def difference(first: Image.Image, second: Image.Image) -> float:
    """Return the mean absolute difference of two images, in grey levels (0 to 255).

    Args:
        first: one image.
        second: another of the same size and mode.
    """
    a, b = (np.asarray(image, dtype=np.float32) for image in (first, second))
    return float(np.abs(a - b).mean())
