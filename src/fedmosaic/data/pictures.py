"""Decodes an image file to RGB as an image viewer displays it.

The first frame of animations, rotated as EXIF says, transparent parts on white, colours converted from the file's
profile to sRGB, 16 bits reduced to 8, very large pictures scaled down. Modes that viewers display differently are
refused.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from fedmosaic.errors import DataError

LARGEST_PIXELS = 2**28  # 16,384 x 16,384: larger than any camera's photo; more is a broken header or a bomb
LARGEST_RATIO = 1000  # of the sides
KEPT_PIXELS = 2**24  # 4,096 x 4,096: more than image processors use
KEPT_SIDE = 2**14

_OPENING = threading.Lock()
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DEEP_GREY = frozenset(("I;16", "I;16L", "I;16B", "I;16N", "I"))
# Formats in which viewers display deep grey from black at 0 to white at the largest number.
_STANDARD_GREY = frozenset(
    (("PNG", "I;16"), ("PNG", "I"), ("PPM", "I"), ("TIFF", "I;16"), ("TIFF", "I;16B"), ("JPEG2000", "I;16"))
)
_WHITE_IS_ZERO = 0
_UNSIGNED = (1, 4)  # unsigned, and "undefined", which readers treat as unsigned
_STRAIGHT_ALPHA = {"La": "LA", "RGBa": "RGBA"}  # modes whose colours are multiplied by alpha
_WIDENED = {"L;2": 85, "L;4": 17}
_PROFILED = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}  # modes that can carry a colour profile, by its own name


def read_picture(file: BinaryIO, name: str) -> Image.Image:
    """Return an image file's picture as RGB, of at most :data:`KEPT_PIXELS` pixels and :data:`KEPT_SIDE` a side.

    Args:
        file: the open file.
        name: what an error calls it.

    Raises:
        DataError: no picture, a damaged one, a mode that viewers display differently, or invalid dimensions.
    """
    with _opened(file, name) as image:
        image.draft(None, _kept(image.size))  # large JPEGs are decoded small right away
        return _displayed(image)


def as_picture(image: Image.Image, name: str) -> Image.Image:
    """Return a picture that is in memory as :func:`read_picture` returns one that is in a file.

    Args:
        image: a Pillow image of any mode; it stays as it is, but is loaded if it was opened lazily.
        name: what an error calls it.

    Raises:
        DataError: as :func:`read_picture`.
    """
    with _told(name):  # it may be opened lazily, from a damaged file
        _check_size(image.size, name)
        _check_mode(image, name)
        return _displayed(image)


def check_picture(file: BinaryIO, name: str, *, decode: bool) -> None:
    """Check an image file.

    Args:
        file: the open file.
        name: what an error calls it.
        decode: decode all pixels as :func:`read_picture` does; False reads the header only.

    Raises:
        DataError: as :func:`read_picture`.
    """
    if decode:
        read_picture(file, name)
    else:
        with _opened(file, name):
            pass


@contextmanager
def _opened(file: BinaryIO, name: str) -> Iterator[Image.Image]:
    """Open an image file; any exception of Pillow about it, also a later one, becomes a :class:`DataError`."""
    with _told(name), _unlimited(file) as image:
        _check_size(image.size, name)
        _check_mode(image, name)
        yield image


@contextmanager
def _told(name: str) -> Iterator[None]:
    advice = "replace the file or remove its record"
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name}: not a readable image (of no format that Pillow knows); {advice}") from None
    except Exception as error:  # damaged files raise many types: struct.error, KeyError, zlib.error ...
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(f"{name}: not a readable image ({reason}); {advice}") from error


def _unlimited(file: BinaryIO) -> Image.Image:
    """Open an image without Pillow's own size limit, which is lower than ours and warns below it."""
    with _OPENING:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if min(size) < 1 or width * height > LARGEST_PIXELS or max(size) > LARGEST_RATIO * min(size):
        raise DataError(
            f"{name}: {width} x {height} pixels; expected at least 1 x 1, at most {LARGEST_PIXELS:,} pixels and sides "
            f"that differ by at most {LARGEST_RATIO:,} times: mend a broken header, or scale the picture down"
        )


def _check_mode(image: Image.Image, name: str) -> None:
    deep = image.mode in _DEEP_GREY and (image.format, image.mode) not in _STANDARD_GREY
    signed = image.format == "TIFF" and _tag(image, ExifTags.Base.SampleFormat, 1) not in _UNSIGNED
    if image.mode == "F" or deep or signed:
        raise DataError(
            f"{name}: mode {image.mode!r} of {image.format} (signed, floating-point or 32-bit numbers) has no agreed "
            "black and white; save it as PNG of 8 or 16 bits"
        )
    if "transparency" in image.info and _layout(image) == "RGB;16B":
        raise DataError(
            f"{name}: mode 'RGB' of 16 bits with a transparent colour cannot be read; save it with an alpha channel"
        )


def _displayed(image: Image.Image) -> Image.Image:
    """Return an image as RGB, upright and at the size at which it is kept."""
    profile = image.info.get("icc_profile")
    _widen_transparency(image)
    image.load()  # before the orientation is asked for: Pillow turns TIFFs while it loads them
    picture = _scaled(_flat(image))
    turn = _UPRIGHT.get(_orientation(image))
    return _in_srgb(picture if turn is None else picture.transpose(turn), profile)


def _flat(image: Image.Image) -> Image.Image:
    """Return the pixels as L, RGB or CMYK, transparent ones on white."""
    if image.mode in _DEEP_GREY:
        return _from_deep_grey(image)
    if image.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return _converted(image, ImageCms.ImageCmsProfile(lab), ImageCms.ImageCmsProfile(rgb))
    if image.has_transparency_data:
        straight = image.convert(_STRAIGHT_ALPHA[image.mode]) if image.mode in _STRAIGHT_ALPHA else image
        clear = straight if straight.mode == "RGBA" else straight.convert("RGBA")
        ground = Image.new("RGB", clear.size, "white")
        ground.paste(clear, mask=clear)  # unlike other ways, without a further copy, which may be a gigabyte
        return ground
    if image.mode in _PROFILED:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Return grey of up to 16 bits as L: its 8 upper bits."""
    values = np.asarray(image)
    bits = _tag(image, ExifTags.Base.BitsPerSample, 16)
    grey = (values >> (bits - 8)).astype(np.uint8)
    if _tag(image, ExifTags.Base.PhotometricInterpretation, 1) == _WHITE_IS_ZERO:  # Pillow turns up to 8 bits round
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """Return the first number of a TIFF's tag; the default where there is none, or for other formats."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    value = tags.get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _layout(image: Image.Image) -> str:
    """Return the pixel layout of a PNG, e.g. ``L;4``; it is known until the pixels are loaded."""
    return str(image.tile[0][3]) if image.format == "PNG" and isinstance(image, ImageFile) and image.tile else ""


def _widen_transparency(image: Image.Image) -> None:
    """Scale the transparent grey of a PNG with 2 or 4 bits to the 8 bits that its pixels are scaled to."""
    if (factor := _WIDENED.get(_layout(image))) and "transparency" in image.info:
        image.info["transparency"] *= factor


def _orientation(image: Image.Image) -> int:
    """Return the orientation in EXIF; 1 where there is none that can be read."""
    with suppress(Exception):  # a damaged block is no reason to refuse the picture: viewers show it too
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _kept(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size at which a picture is kept: the same, or scaled down in both directions alike."""
    width, height = size
    factor = min(1.0, math.sqrt(KEPT_PIXELS / (width * height)), KEPT_SIDE / max(size))
    return max(1, int(width * factor)), max(1, int(height * factor))


def _scaled(image: Image.Image) -> Image.Image:
    size = _kept(image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an L, RGB or CMYK image as RGB, its colours converted from its profile if it has a usable one."""
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, ValueError):  # viewers ignore profiles that are damaged
            given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            fits = given.profile.xcolor_space == _PROFILED[image.mode]
            if fits and "srgb" not in (given.profile.profile_description or "").lower():
                return _converted(image, given, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")))
    return image.convert("RGB")


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile, target: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    assert converted is not None  # it is None only for conversions in place
    return converted
