from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmosaic.data.images import BankSource, FileSource, MergedSource
from fedmosaic.errors import DataError


@pytest.fixture
def bank(tmp_path: Path) -> BankSource:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    return BankSource(tmp_path / "images.npy", "abc")


def test_a_bank_gives_back_the_stored_pixels(bank: BankSource) -> None:
    stored = np.load(bank.path)
    assert list(bank.keys()) == ["000000", "000001", "000002"]
    for i, key in enumerate(bank.keys()):
        np.testing.assert_array_equal(np.asarray(bank.load(key)), stored[i])


@pytest.mark.parametrize("key", ["000003", "3", "-00001", "x", "", "0000001"])
def test_a_bank_names_a_key_it_does_not_have(bank: BankSource, key: str) -> None:
    with pytest.raises(DataError, match="000002") as error:
        bank.load(key)
    assert repr(key) in str(error.value)


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 4), np.uint8)],
)
def test_a_bank_of_another_form_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "images.npy", array)
    with pytest.raises(DataError, match="expected uint8"):
        BankSource(tmp_path / "images.npy", "abc")


def test_a_bank_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable image bank"):
        BankSource(tmp_path / "images.npy", "abc")


def test_a_truncated_bank_is_refused(bank: BankSource) -> None:
    content = bank.path.read_bytes()
    bank.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a readable image bank"):
        BankSource(bank.path, "abc")


def _gray16() -> Image.Image:
    return Image.fromarray(np.full((4, 4), 0x8000, np.uint16))


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("L", (4, 4), 7), (7, 7, 7)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("P", (4, 4), 0), (0, 0, 0)),
        (_gray16(), (128, 128, 128)),
    ],
)
def test_files_of_any_mode_become_rgb(tmp_path: Path, image: Image.Image, pixel: tuple[int, int, int]) -> None:
    image.save(tmp_path / "x.png")
    loaded = FileSource(tmp_path).load("x.png")
    assert loaded.mode == "RGB"
    assert loaded.getpixel((1, 1)) == pixel


def test_cmyk_files_become_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 0, 0, 0)).save(tmp_path / "x.jpg")
    assert FileSource(tmp_path).load("x.jpg").getpixel((0, 0)) == (255, 255, 255)


def _truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not an image"),
        _truncated,
    ],
)
def test_files_that_are_no_usable_image_are_named(tmp_path: Path, damage: object) -> None:
    damage(tmp_path / "bad.png")  # type: ignore[operator]
    with pytest.raises(DataError, match=r"bad\.png"):
        FileSource(tmp_path).load("bad.png")


@pytest.mark.parametrize("key", ["missing.png", "../outside.png", "/etc/hostname"])
def test_missing_and_outside_files_are_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / "data").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    with pytest.raises(DataError, match=Path(key).name):
        FileSource(tmp_path / "data").load(key)


def test_a_digest_follows_the_bytes(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    before = FileSource(tmp_path).digest("a.png")
    assert FileSource(tmp_path).digest("a.png") == before
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    assert FileSource(tmp_path).digest("a.png") != before


def test_a_merged_source_opens_its_second_part_when_a_key_asks_for_it(bank: BankSource) -> None:
    opened = []

    def second() -> BankSource:
        opened.append(1)
        return bank

    merged = MergedSource(bank, "public/", second)
    assert merged.keys() == bank.keys()
    assert merged.collection == bank.collection
    assert merged.digest("000001") == bank.digest("000001")
    assert not opened
    for _ in range(2):
        np.testing.assert_array_equal(merged.load("public/000002"), bank.load("000002"))
    assert len(opened) == 1
    with pytest.raises(DataError, match="000002"):
        merged.load("public/000003")
