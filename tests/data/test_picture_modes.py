"""Pictures of every mode and depth look as a viewer shows them, or are refused by name."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fedmosaic.data.pictures import as_picture, check_picture, read_picture
from fedmosaic.errors import DataError

COLOURS = np.array(
    [
        [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)],
        [(0, 255, 255), (255, 0, 255), (0, 0, 0), (255, 255, 255)],
        [(51, 102, 153), (204, 85, 17), (34, 170, 221), (119, 136, 68)],
    ],
    np.uint8,
)
GREYS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 17  # what 4 bits can say exactly
LEFT = np.s_[:, :2]  # what is transparent in pictures that have such a part


def read(content: bytes) -> np.ndarray:
    picture = read_picture(io.BytesIO(content), "x")
    assert picture.mode == "RGB"
    return np.asarray(picture)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(rows: np.ndarray, depth: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG by the book: rows (height, values in a row), of ``depth`` bits each."""
    height, values = rows.shape
    width = values // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    body = b"".join(b"\0" + packed(row, depth, ">") for row in rows)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def tiff(rows: np.ndarray, bits: tuple[int, ...], photometric: int, order: str = "<", **tags: int) -> bytes:
    """Write an uncompressed TIFF of one strip: rows (height, values in a row)."""
    height, values = rows.shape
    body = b"".join(packed(row, bits[0], order) for row in rows)
    table = {256: values // len(bits), 257: height, 258: bits, 259: 1, 262: photometric, 277: len(bits), 278: height}
    numbers = {"extra": 338, "sample_format": 339, "orientation": 274}
    table |= {numbers[name]: value for name, value in tags.items()}
    table |= {273: 8, 279: len(body)}
    late, entries = b"", b""
    start = 8 + len(body) + 2 + 12 * len(table) + 4
    for tag, value in sorted(table.items()):
        listed = value if isinstance(value, tuple) else (value,)
        data = struct.pack(f"{order}{len(listed)}H", *listed)
        if len(data) > 4:
            data, late = struct.pack(f"{order}I", start + len(late)), late + data
        entries += struct.pack(f"{order}HHI", tag, 3, len(listed)) + data.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(table)) + entries + struct.pack(f"{order}I", 0) + late


def packed(row: np.ndarray, depth: int, order: str) -> bytes:
    if row.dtype.kind != "u" or depth in (16, 32):
        return row.astype(row.dtype.newbyteorder(order)).tobytes()
    bits = (row[:, None] >> np.arange(depth)[::-1]) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, -1)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def whitened(colours: np.ndarray) -> np.ndarray:
    changed = colours.copy()
    changed[LEFT] = 255
    return changed


ALPHA = np.array([[0, 0, 128, 255]] * 3, np.uint8)
WIDE = GREYS.astype(np.uint16) * 257 - (GREYS > 0)  # 16 bits; the lower ones are not those of a widened byte
TRANSPARENT = np.array([[5, 5, 9, 10]] * 3, np.uint16)  # values of which one is the transparent one
RGB, RGB16 = COLOURS.reshape(3, 12), (COLOURS.astype(np.uint16) * 257).reshape(3, 12)
PREMULTIPLIED = np.concatenate([(COLOURS * (ALPHA[..., None] / 255)).round().astype(np.uint8), ALPHA[..., None]], -1)


def image(mode: str) -> Image.Image:
    return Image.fromarray(COLOURS).convert(mode)


def with_alpha() -> Image.Image:
    made = image("RGBA")
    made.putalpha(Image.fromarray(ALPHA))
    return made


def paletted() -> Image.Image:
    """Index 0 is red, 1 blue; the left half is red."""
    made = Image.fromarray(np.array([[0, 0, 1, 1]] * 3, np.uint8))
    made.putpalette([255, 0, 0, 0, 0, 255])
    return made


def with_palette_and_alpha() -> Image.Image:
    made = paletted().convert("PA")
    made.putalpha(Image.fromarray(ALPHA))
    return made


def psd() -> bytes:
    """Write a Photoshop file of one merged picture, its planes one after the other."""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 3, 4, 8, 3)
    return head + bytes(12) + b"\0\0" + COLOURS.transpose(2, 0, 1).tobytes()


HALVES = np.where(np.arange(4)[None, :, None] < 2, (255, 0, 0), (0, 0, 255)).repeat(3, 0).astype(np.uint8)
TRNS = b"tRNS"

CASES: dict[str, tuple[bytes, np.ndarray]] = {
    # ---- PNG: all 15 kinds of the standard, by hand
    **{
        f"png grey {depth}": (
            png((GREYS.astype(np.uint16) * (2**depth - 1) // 255), depth, 0),
            grey(((GREYS.astype(int) * (2**depth - 1) // 255) * 255 // (2**depth - 1)).astype(np.uint8)),
        )
        for depth in (1, 2, 4, 8)
    },
    "png grey 16": (png(WIDE, 16, 0), grey((WIDE >> 8).astype(np.uint8))),
    "png rgb 8": (png(RGB, 8, 2), COLOURS),
    "png rgb 16": (png(RGB16, 16, 2), COLOURS),
    "png grey alpha 8": (png(np.stack([GREYS, ALPHA], -1).reshape(3, 8), 8, 4), on_white(grey(GREYS), ALPHA)),
    "png grey alpha 16": (
        png((np.stack([GREYS, ALPHA], -1).astype(np.uint16) * 257).reshape(3, 8), 16, 4),
        on_white(grey(GREYS), ALPHA),
    ),
    "png rgba 8": (saved(with_alpha(), "PNG"), on_white(COLOURS, ALPHA)),
    "png rgba 16": (
        png((np.concatenate([COLOURS, ALPHA[..., None]], -1).astype(np.uint16) * 257).reshape(3, 16), 16, 6),
        on_white(COLOURS, ALPHA),
    ),
    **{
        f"png palette {depth}": (
            png(np.array([[0, 0, 1, 1]] * 3, np.uint8), depth, 3, (b"PLTE", bytes([255, 0, 0, 0, 0, 255]))),
            HALVES,
        )
        for depth in (1, 2, 4, 8)
    },
    # ---- and with one transparent colour
    **{
        f"png palette {depth} tRNS": (
            png(
                np.array([[0, 0, 1, 1]] * 3, np.uint8),
                depth,
                3,
                (b"PLTE", bytes([255, 0, 0, 0, 0, 255])),
                (TRNS, b"\0"),
            ),
            whitened(HALVES),
        )
        for depth in (1, 2, 4, 8)
    },
    "png palette tRNS half": (
        png(
            np.array([[0, 0, 1, 1]] * 3, np.uint8), 8, 3, (b"PLTE", bytes([255, 0, 0, 0, 0, 255])), (TRNS, b"\x80\xff")
        ),
        on_white(HALVES, np.array([[128, 128, 255, 255]] * 3)),
    ),
    "png grey 1 tRNS": (
        png(np.array([[0, 0, 1, 0]] * 3, np.uint8), 1, 0, (TRNS, b"\0\0")),
        grey(np.full((3, 4), 255)),
    ),
    "png grey 1 tRNS white": (
        png(np.array([[1, 1, 0, 0]] * 3, np.uint8), 1, 0, (TRNS, b"\0\1")),
        grey(np.array([[255, 255, 0, 0]] * 3)),
    ),
    "png grey 2 tRNS": (
        png(np.array([[1, 1, 2, 3]] * 3, np.uint8), 2, 0, (TRNS, b"\0\1")),
        grey(np.array([[255, 255, 170, 255]] * 3)),
    ),
    "png grey 4 tRNS": (png(TRANSPARENT, 4, 0, (TRNS, b"\0\5")), grey(np.array([[255, 255, 153, 170]] * 3))),
    "png grey 8 tRNS": (png(TRANSPARENT, 8, 0, (TRNS, b"\0\5")), grey(np.array([[255, 255, 9, 10]] * 3))),
    "png grey 16 tRNS": (
        png(np.array([[0x2001, 0x2001, 0x2002, 0x9000]] * 3, np.uint16), 16, 0, (TRNS, b"\x20\x01")),
        grey(np.array([[255, 255, 0x20, 0x90]] * 3)),
    ),
    "png rgb 8 tRNS": (
        png(np.array([[1, 2, 3, 1, 2, 3, 3, 2, 1, 1, 2, 4]] * 3, np.uint8), 8, 2, (TRNS, bytes([0, 1, 0, 2, 0, 3]))),
        np.array([[(255, 255, 255), (255, 255, 255), (3, 2, 1), (1, 2, 4)]] * 3),
    ),
    # ---- TIFF, by hand
    **{
        f"tiff {name} {depth} {order}": (
            tiff(
                (GREYS.astype(np.uint16) * (2**depth - 1) // 255)
                if zero
                else (2**depth - 1 - GREYS.astype(np.uint16) * (2**depth - 1) // 255),
                (depth,),
                zero,
                order,
            ),
            grey(((GREYS.astype(int) * (2**depth - 1) // 255) * 255 // (2**depth - 1)).astype(np.uint8)),
        )
        for depth in (1, 4, 8)
        for name, zero in (("black is zero", 1), ("white is zero", 0))
        for order in "<>"
    },
    "tiff 12": (tiff(WIDE >> 4, (12,), 1), grey((WIDE >> 8).astype(np.uint8))),
    "tiff 16 little": (tiff(WIDE, (16,), 1), grey((WIDE >> 8).astype(np.uint8))),
    "tiff 16 big": (tiff(WIDE, (16,), 1, ">"), grey((WIDE >> 8).astype(np.uint8))),
    "tiff 16 white is zero": (tiff(0xFFFF - WIDE, (16,), 0), grey((WIDE >> 8).astype(np.uint8))),
    "tiff rgb 16": (tiff(RGB16, (16, 16, 16), 2), COLOURS),
    "tiff rgb 16 big": (tiff(RGB16, (16, 16, 16), 2, ">"), COLOURS),
    "tiff LA": (
        tiff(np.stack([GREYS, ALPHA], -1).reshape(3, 8), (8, 8), 1, extra=2),
        on_white(grey(GREYS), ALPHA),
    ),
    "tiff La": (
        tiff(np.stack([(GREYS * (ALPHA / 255)).round().astype(np.uint8), ALPHA], -1).reshape(3, 8), (8, 8), 1, extra=1),
        on_white(grey(GREYS), ALPHA),
    ),
    "tiff RGBa": (tiff(PREMULTIPLIED.reshape(3, 16), (8,) * 4, 2, extra=1), on_white(COLOURS, ALPHA)),
    "tiff RGBA": (saved(with_alpha(), "TIFF"), on_white(COLOURS, ALPHA)),
    "tiff RGBX": (tiff(PREMULTIPLIED.reshape(3, 16), (8,) * 4, 2, extra=0), PREMULTIPLIED[..., :3]),
    "tiff CMYK": (saved(image("CMYK"), "TIFF"), COLOURS),
    "tiff YCbCr": (saved(image("YCbCr"), "TIFF"), COLOURS),
    "tiff P": (saved(paletted(), "TIFF"), HALVES),
    # ---- the other formats
    "gif": (saved(paletted(), "GIF"), HALVES),
    "gif transparent": (saved(paletted(), "GIF", transparency=0), whitened(HALVES)),
    "gif animated": (saved(paletted(), "GIF", save_all=True, append_images=[image("P")]), HALVES),
    "apng": (saved(image("RGB"), "PNG", save_all=True, append_images=[Image.new("RGB", (4, 3))]), COLOURS),
    "webp": (saved(image("RGB"), "WEBP", lossless=True), COLOURS),
    "webp alpha": (saved(with_alpha(), "WEBP", lossless=True, exact=True), on_white(COLOURS, ALPHA)),
    "webp animated": (
        saved(image("RGB"), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (4, 3))]),
        COLOURS,
    ),
    "bmp": (saved(image("RGB"), "BMP"), COLOURS),
    "bmp 1": (saved(image("1"), "BMP"), np.asarray(image("1").convert("RGB"))),
    "tga alpha": (saved(with_alpha(), "TGA"), on_white(COLOURS, ALPHA)),
    "pgm": (saved(Image.fromarray(GREYS), "PPM"), grey(GREYS)),
    "pgm 16": (b"P5 4 3 65535\n" + WIDE.astype(">u2").tobytes(), grey((WIDE >> 8).astype(np.uint8))),
    "pgm 10": (
        b"P5 4 1 1023\n" + np.array([0, 512, 1022, 1023], ">u2").tobytes(),
        grey(np.array([[0, 128, 254, 255]])),
    ),
    "jpeg 2000 16": (saved(Image.fromarray(WIDE), "JPEG2000"), grey((WIDE >> 8).astype(np.uint8))),
    "jpeg 2000": (saved(image("RGB"), "JPEG2000"), COLOURS),
    "jpeg CMYK": (saved(Image.new("CMYK", (4, 3), (0, 51, 102, 51)), "JPEG"), np.full((3, 4, 3), (204, 163, 122))),
    **{f"im {mode}": (saved(image(mode), "IM"), COLOURS) for mode in ("RGB", "RGBX", "CMYK", "YCbCr")},
    "im LA": (saved(with_alpha().convert("LA"), "IM"), on_white(np.asarray(image("L").convert("RGB")), ALPHA)),
    "im PA": (saved(with_palette_and_alpha(), "IM"), on_white(HALVES, ALPHA)),
    "ico": (saved(with_alpha(), "ICO", sizes=[(4, 3)]), on_white(COLOURS, ALPHA)),
    "sgi 16": (saved(Image.fromarray(GREYS), "SGI", bpc=2), grey(GREYS)),
    "psd": (psd(), COLOURS),
}
ROUNDED = {"tiff YCbCr": 3, "im YCbCr": 3, "tiff La": 2, "tiff RGBa": 2}  # what is lost when such a file is written


@pytest.mark.parametrize("name", CASES)
def test_a_picture_looks_as_it_was_drawn(name: str) -> None:
    content, expected = CASES[name]
    found = read(content)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.astype(int), expected.astype(float), atol=ROUNDED.get(name, 1), rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_a_picture_as_an_object_looks_as_its_file_does(name: str) -> None:
    content, _ = CASES[name]
    opened = Image.open(io.BytesIO(content))
    for _ in range(2):  # a run asks for it again
        np.testing.assert_array_equal(np.asarray(as_picture(opened, "x")), read(content))


@pytest.mark.parametrize(
    ("lab", "colour"),
    [((50, 0, 0), (119, 119, 119)), ((100, 0, 0), (255, 255, 255)), ((54.3, 80.8, 69.9), (255, 0, 0))],
)
def test_lab_is_brought_to_srgb(lab: tuple[float, float, float], colour: tuple[int, int, int]) -> None:
    stored = np.array([round(lab[0] * 2.55), *(round(value) % 256 for value in lab[1:])], np.uint8)
    found = read(tiff(np.tile(stored, (3, 4)), (8, 8, 8), 8))
    np.testing.assert_allclose(found.astype(int), np.broadcast_to(colour, (3, 4, 3)), atol=6)


REFUSED = {
    "F": tiff(np.zeros((3, 4), np.float32), (32,), 1, sample_format=3),
    "I": tiff(np.zeros((3, 4), np.uint32), (32,), 1),
    "'I' of TIFF (signed": tiff(np.zeros((3, 4), np.int16), (16,), 1, sample_format=2),
    "'L' of TIFF (signed": tiff(np.zeros((3, 4), np.uint8), (8,), 1, sample_format=2),
    "'F' of PPM": b"Pf 4 3 -1.0\n" + bytes(48),
    "'I' of IM": saved(Image.fromarray(np.zeros((3, 4), np.int32)), "IM"),
    "'F' of SPIDER": saved(Image.fromarray(np.zeros((3, 4), np.float32)), "SPIDER"),
    "'RGB' of 16 bits with a transparent": png(RGB16, 16, 2, (TRNS, bytes(6))),
}


@pytest.mark.parametrize("mode", REFUSED)
@pytest.mark.parametrize("decode", [False, True])
def test_what_has_no_agreed_look_is_refused_by_name(mode: str, decode: bool) -> None:
    with pytest.raises(DataError, match=r"^holiday.*PNG|alpha channel") as error:
        check_picture(io.BytesIO(REFUSED[mode]), "holiday", decode=decode)
    assert mode in str(error.value)


def test_every_mode_that_a_format_can_open_is_in_a_test() -> None:
    tried = {
        Image.open(io.BytesIO(content)).mode for content in [*REFUSED.values(), *(case for case, _ in CASES.values())]
    }
    assert tried >= {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "I;16B"}
