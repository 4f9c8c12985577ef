"""Pictures are turned, scaled and coloured as a viewer does it; what cannot be read gives one clear error."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from fedmosaic.data import pictures
from fedmosaic.data.pictures import KEPT_PIXELS, KEPT_SIDE, LARGEST_PIXELS, as_picture, check_picture, read_picture
from fedmosaic.errors import DataError

UPRIGHT = np.kron(
    np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]], [[0, 0, 0], [255, 255, 0]]]),
    np.ones((16, 16, 1), int),
).astype(np.uint8)
# How a camera stored what was upright, by the orientation that it noted (EXIF 2.32, tag 0x0112).
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: np.rot90(UPRIGHT, 2).transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(content: bytes) -> Image.Image:
    return read_picture(io.BytesIO(content), "holiday")


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def claiming(width: int, height: int, mode: str = "L") -> bytes:
    """Write a PNG whose header claims a size that its pixels do not have."""
    content = bytearray(saved(Image.new(mode, (3, 3))))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {"quality": 100, "subsampling": 0}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_pictures_are_turned_upright(orientation: int, kind: str, options: dict[str, object]) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    found = np.asarray(read(saved(stored, kind, exif=exif(orientation), **options)))
    assert found.shape == UPRIGHT.shape
    np.testing.assert_allclose(found.astype(int), UPRIGHT, atol=4)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_picture_as_an_object_is_turned_as_its_file_is(orientation: int, kind: str, loaded: bool) -> None:
    content = saved(Image.fromarray(np.ascontiguousarray(STORED[orientation])), kind, exif=exif(orientation))
    opened = Image.open(io.BytesIO(content))
    if loaded:
        opened.load()
    for _ in range(2):  # a run asks for it again
        np.testing.assert_array_equal(np.asarray(as_picture(opened, "holiday")), np.asarray(read(content)))


@pytest.mark.parametrize("note", [exif(0), exif(9), b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_a_camera_s_note_that_makes_no_sense_changes_nothing(note: Image.Exif | bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = saved(Image.fromarray(UPRIGHT), "JPEG", quality=100, subsampling=0, exif=note)
        np.testing.assert_allclose(np.asarray(read(content)).astype(int), UPRIGHT, atol=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "size"),
    [("JPEG", (8064, 6048)), ("PNG", (5000, 3600)), ("JPEG", (600, 40_000)), ("PNG", (40_000, 60))],
)
def test_large_photos_and_long_strips_are_scaled_down(kind: str, size: tuple[int, int]) -> None:
    width, height = size
    drawn = Image.new("RGB", size, "red")
    drawn.paste("blue", (0, 0, width // 2, height // 2))
    found = read(saved(drawn, kind, **({"compress_level": 1} if kind == "PNG" else {})))
    assert found.width * found.height <= KEPT_PIXELS
    assert max(found.size) <= KEPT_SIDE
    assert max(found.width * found.height / KEPT_PIXELS, max(found.size) / KEPT_SIDE) > 0.99  # and no further
    assert found.width / found.height == pytest.approx(width / height, rel=0.03)
    for (x, y), colour in {(0.25, 0.25): (0, 0, 255), (0.75, 0.25): (255, 0, 0), (0.25, 0.75): (255, 0, 0)}.items():
        pixel = found.getpixel((int(x * found.width), int(y * found.height)))
        np.testing.assert_allclose(pixel, colour, atol=4)


def test_pictures_up_to_the_kept_size_keep_every_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "KEPT_PIXELS", 32 * 48)
    monkeypatch.setattr(pictures, "KEPT_SIDE", 48)
    np.testing.assert_array_equal(np.asarray(read(saved(Image.fromarray(UPRIGHT)))), UPRIGHT)
    assert read(saved(Image.new("L", (33, 48)))).size == (32, 47)
    assert read(saved(Image.new("L", (490, 1)))).size == (48, 1)


def test_large_pictures_are_turned_and_stay_on_white(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "KEPT_PIXELS", 100)
    stored = Image.new("RGBA", (40, 10), (255, 0, 0, 0))
    stored.paste((0, 0, 255, 255), (0, 0, 20, 10))
    found = read(saved(stored, exif=exif(6)))
    assert found.size == (5, 20)
    assert found.getpixel((2, 2)) == (0, 0, 255)
    assert found.getpixel((2, 17)) == (255, 255, 255)


@pytest.mark.parametrize(
    "size", [(0, 5), (5, 0), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (5_000, 2), (16_385, 16_384)]
)
@pytest.mark.parametrize("decode", [False, True])
def test_broken_headers_and_bombs_are_refused(size: tuple[int, int], decode: bool) -> None:
    with pytest.raises(DataError, match=r"^holiday") as error:
        check_picture(io.BytesIO(claiming(*size)), "holiday", decode=decode)
    assert "\n" not in str(error.value)


def test_the_header_s_check_allows_what_pillow_alone_would_refuse() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_picture(io.BytesIO(claiming(16_384, 16_384)), "holiday", decode=False)
    assert limit == Image.MAX_IMAGE_PIXELS  # other users of Pillow in this process keep their guard
    assert LARGEST_PIXELS == 16_384**2


@pytest.mark.parametrize("damage", [b"", bytes(40)], ids=["cut off", "zeros"])
def test_a_damaged_file_as_an_object_is_named_in_one_line(damage: bytes) -> None:
    content = saved(Image.fromarray(UPRIGHT))
    opened = Image.open(io.BytesIO(content[:60] + damage))
    with pytest.raises(DataError, match=r"^holiday: not a readable image") as error:
        as_picture(opened, "holiday")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"not an image", b"\0", b"version https://git-lfs.github.com/spec/v1\n", b"<svg/>"]
)
def test_what_is_no_picture_is_named_in_one_line(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^holiday: not a readable image") as error:
        read(content)
    assert "BytesIO" not in str(error.value)
    assert "\n" not in str(error.value)


SMALL = Image.fromarray(UPRIGHT)
VICTIMS = [
    saved(SMALL, "PNG"),
    saved(SMALL, "JPEG", exif=exif(6)),
    saved(SMALL, "TIFF", compression="tiff_lzw"),
    saved(SMALL.convert("P"), "GIF"),
    saved(SMALL, "WEBP"),
    saved(SMALL, "BMP"),
    saved(SMALL.convert("RGBA"), "TGA"),
    saved(SMALL, "PPM"),
    saved(SMALL, "ICO", sizes=[(32, 32)]),
    saved(SMALL, "JPEG2000"),
]


@pytest.mark.slow
@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    st.sampled_from(VICTIMS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6), st.floats(0, 1.2)
)
def test_damaged_files_are_read_or_refused_but_never_crash(
    victim: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    content = bytearray(victim)
    for place, value in changes:
        content[int(place * (len(content) - 1))] = value
    damaged = bytes(content[: max(1, int(kept * len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert read(damaged).mode == "RGB"
        except DataError as error:
            assert str(error).startswith("holiday")
            assert "\n" not in str(error)


# ---- colour profiles


def profile(primaries: tuple[tuple[float, float, float], ...]) -> bytes:
    """Write the smallest matrix profile (ICC.1:2001): three primaries in XYZ of D50, and a linear curve."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    for name, column in zip(b"rgb", primaries, strict=True):
        tags[bytes([name]) + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*column)
        tags[bytes([name]) + b"TRC"] = b"curv\0\0\0\0\0\0\0\0"
    tags[b"desc"] = b"desc\0\0\0\0\0\0\0\5test\0" + bytes(78)
    tags[b"cprt"] = b"text\0\0\0\0none\0"
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12x4s28x", start + len(body), b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp"
    )
    head += fixed(0.9642, 1, 0.8249) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))


def curve(linear: float) -> float:
    """sRGB's curve (IEC 61966-2-1)."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_are_brought_from_the_file_s_profile_to_srgb(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = Image.new("RGB", (4, 4), (51, 102, 153))
    found = read(saved(stored, kind, icc_profile=profile(SRGB), **options)).getpixel((1, 1))
    np.testing.assert_allclose(found, [255 * curve(value / 255) for value in (51, 102, 153)], atol=2)
    swapped = read(saved(stored, kind, icc_profile=profile(SRGB[::-1]), **options)).getpixel((1, 1))
    np.testing.assert_allclose(swapped, found[::-1], atol=2)


def test_a_profile_of_srgb_itself_and_one_that_is_damaged_or_of_other_channels_change_nothing() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for given_profile in (own, b"rubbish", profile(SRGB)[:200]):
        found = read(saved(Image.fromarray(UPRIGHT), icc_profile=given_profile))
        np.testing.assert_array_equal(np.asarray(found), UPRIGHT)
    grey = read(saved(Image.new("L", (4, 4), 100), icc_profile=profile(SRGB)))
    assert grey.getpixel((1, 1)) == (100, 100, 100)
