"""What a picture's facts say must be what its pixels show: checked by means other than the drawing code's."""

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageColor

from fedmosaic.data.mosaic40 import charts, scenes
from fedmosaic.data.mosaic40.bank import BankBuilder, Picture
from fedmosaic.data.mosaic40.catalog import TEST, TRAIN, Icon, icons


@pytest.fixture(scope="module")
def things() -> list[Icon]:
    return [icon for icon in icons() if icon.part == TRAIN and icon.category != "flag"]


def pixels(builder: BankBuilder, picture: Picture) -> np.ndarray:
    return builder.images[int(picture.key)].astype(int)


def areas(image: np.ndarray, inks: dict[str, str]) -> Counter[str]:
    """How many pixels are close to each ink."""
    found: Counter[str] = Counter()
    for name, ink in inks.items():
        found[name] = int((np.abs(image - ImageColor.getrgb(ink)).sum(axis=-1) < 60).sum())
    return found


@pytest.mark.parametrize("domain", ["bars", "hbars"])
@pytest.mark.parametrize("seed", range(8))
def test_bars_are_as_told(domain: str, seed: int) -> None:
    builder = BankBuilder()
    picture = charts.bars(builder, domain, random.Random(seed), TEST)
    inks = charts.PALETTE if domain == "bars" else charts.DARK_PALETTE
    seen = areas(pixels(builder, picture), inks)
    shown = [name for name, area in seen.items() if area >= 6]
    assert sorted(shown) == sorted(picture["colours"])
    assert max(shown, key=lambda n: seen[n]) == picture["highest"]
    assert min(shown, key=lambda n: seen[n]) == picture["lowest"]


@pytest.mark.parametrize("seed", range(8))
def test_pies_are_as_told(seed: int) -> None:
    builder = BankBuilder()
    picture = charts.pie(builder, random.Random(seed), TEST)
    seen = areas(pixels(builder, picture), charts.PALETTE)
    assert max(picture["colours"], key=lambda n: seen[n]) == picture["highest"]
    assert min(picture["colours"], key=lambda n: seen[n]) == picture["lowest"]
    assert sum(seen[c] for c in picture["colours"]) > 0.9 * sum(seen.values())


@pytest.mark.parametrize("domain", ["lines", "screen"])
@pytest.mark.parametrize("seed", range(8))
def test_lines_are_as_told(domain: str, seed: int) -> None:
    builder = BankBuilder()
    picture = charts.line(builder, domain, random.Random(seed), TEST)
    ink = ImageColor.getrgb((charts.PALETTE if domain == "lines" else charts.DARK_PALETTE)[picture["colour"]])
    rows, columns = np.nonzero(np.abs(pixels(builder, picture) - ink).sum(axis=-1) < 120)
    inside = columns > 5  # not the axis
    rows, columns = rows[inside], columns[inside]
    start, end = rows[columns < columns.min() + 5].mean(), rows[columns > columns.max() - 5].mean()
    assert ("up" if end < start else "down") == picture["trend"]
    top = columns[rows == rows.min()].mean()
    assert ("left" if top < (columns.min() + columns.max()) / 2 else "right") == picture["peak"]


def test_trends_and_peaks_do_not_answer_each_other_always() -> None:
    builder, rng = BankBuilder(), random.Random(0)
    drawn = [charts.line(builder, "lines", rng, TRAIN) for _ in range(150)]
    trends = Counter(picture["trend"] for picture in drawn)
    assert min(trends.values()) > 50
    assert Counter((p["trend"], p["peak"]) for p in drawn)["up", "left"] >= 1


@pytest.mark.parametrize("seed", range(12))
def test_hills_are_highest_in_the_told_half_by_far(seed: int) -> None:
    builder = BankBuilder()
    picture = charts.hill(builder, "lines", random.Random(seed), TEST)
    ink = ImageColor.getrgb(charts.PALETTE[picture["colour"]])
    rows, columns = np.nonzero(np.abs(pixels(builder, picture) - ink).sum(axis=-1) < 120)
    inside = columns > 5  # not the axis
    rows, columns = rows[inside], columns[inside]
    middle = (columns.min() + columns.max()) / 2
    left, right = rows[columns < middle - 2].min(), rows[columns > middle + 2].min()
    assert ("left" if left < right else "right") == picture["peak"]
    assert abs(left - right) >= 3


def test_hills_peak_on_either_side() -> None:
    builder, rng = BankBuilder(), random.Random(0)
    peaks = Counter(charts.hill(builder, "lines", rng, TRAIN)["peak"] for _ in range(60))
    assert min(peaks.values()) >= 15


@pytest.mark.slow
def test_counts_fill_as_many_cells(things: list[Icon]) -> None:
    builder, rng = BankBuilder(), random.Random(0)
    numbers = set()
    for _ in range(30):
        picture = scenes.count(builder, things, "line", rng, TRAIN)
        ink = pixels(builder, picture).sum(axis=-1) < 600
        cells = ink[:63, :63].reshape(3, 21, 3, 21).any(axis=(1, 3))
        assert cells.sum() == picture["number"]
        numbers.add(picture["number"])
    assert numbers == {1, 2, 3, 4, 5}


@pytest.mark.slow
def test_pairs_lie_as_told(things: list[Icon]) -> None:
    """The first thing is redrawn on its own place: the picture must hold it on the side that the relation says."""
    builder, rng = BankBuilder(), random.Random(0)
    for _ in range(40):
        picture = scenes.pair(builder, things, "line", rng, TRAIN)
        ink = pixels(builder, picture).sum(axis=-1) < 600
        halves = {"left": ink[:, :32], "right": ink[:, 33:], "above": ink[:32], "below": ink[33:]}
        flat = picture["relation"] in {"left", "right"}
        sides = ("left", "right") if flat else ("above", "below")
        assert all(halves[side].any() for side in sides)
        band = ink[:, 31:33] if flat else ink[31:33]
        assert band.mean() < 0.5
        assert picture["first"] != picture["second"]


@pytest.mark.slow
def test_relations_put_the_first_thing_on_its_side(things: list[Icon], monkeypatch: pytest.MonkeyPatch) -> None:
    placed = []
    monkeypatch.setattr(
        scenes.rendering, "draw", lambda domain, icons, **kw: placed.append(icons) or Image.new("RGB", (64, 64))
    )
    builder, rng = BankBuilder(), random.Random(1)
    for _ in range(40):
        relation = scenes.pair(builder, things, "line", rng, TRAIN)["relation"]
        one, two = placed[-1]
        truth = {
            "left": one.left + one.side < two.left + 6,
            "right": two.left + two.side < one.left + 6,
            "above": one.top + one.side < two.top + 6,
            "below": two.top + two.side < one.top + 6,
        }
        assert truth[relation]
        assert {box.left + box.side <= 66 and box.top + box.side <= 66 for box in (one, two)} == {True}


@pytest.mark.slow
def test_changes_are_as_told(things: list[Icon]) -> None:
    builder, rng = BankBuilder(), random.Random(0)
    seen = Counter()
    for _ in range(60):
        base, after = scenes.grid(builder, things, "openmoji", rng, TRAIN)
        assert after["base"] == base.key
        old, new = base["cells"], after["cells"]
        gone, come = (
            Counter(filter(None, old)) - Counter(filter(None, new)),
            Counter(filter(None, new)) - Counter(filter(None, old)),
        )
        places = [bool(c) for c in old], [bool(c) for c in new]
        told = {
            (0, 0): "moved",
            (1, 1): "replaced",
            (1, 0): "removed",
            (0, 1): "added",
        }[gone.total(), come.total()]
        assert told == after["change"]
        assert (places[0] == places[1]) == (told == "replaced")
        quarters = [pixels(builder, after)[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32)]
        assert [bool((q < 250).any()) for q in quarters] == places[1]
        seen[told] += 1
    assert min(seen.values()) >= 5
    assert len(seen) == 4


@pytest.mark.slow
def test_edits_are_as_told_and_can_be_seen(things: list[Icon]) -> None:
    builder, rng = BankBuilder(), random.Random(0)
    seen = Counter()
    for thing in things[:40]:
        for picture in scenes.edits(builder, thing, "openmoji", rng, TRAIN):
            base, edited = builder.images[int(picture["base"])], pixels(builder, picture)
            edit = picture["edit"]
            seen[edit] += 1
            assert np.abs(edited - base).mean() > 1
            if edit == "inverted":
                np.testing.assert_array_equal(edited, 255 - base.astype(int))
            if edit == "gray":
                assert (edited[..., 0] == edited[..., 1]).all()
                assert (edited[..., 1] == edited[..., 2]).all()
            if edit == "flipped":
                assert np.abs(edited - base[:, ::-1]).mean() < 4
            if edit == "rotated":
                assert min(np.abs(edited - np.rot90(base, k)).mean() for k in (1, 2, 3)) < 4
            ink, before = (edited < 250).any(-1).mean(), (base < 250).any(-1).mean()
            if edit == "smaller":
                assert ink < before
    assert set(seen) == set(scenes.EDITS)


@pytest.mark.slow
def test_digits_are_the_scans() -> None:
    builder = BankBuilder()
    images, digits = scenes.load_digits_once()
    for number in (0, 500, 1700):
        for domain, sign in (("ink", -1), ("chalk", 1)):
            picture = scenes.digit(builder, number, domain)
            assert picture["digit"] == digits[number]
            small = Image.fromarray(builder.images[int(picture.key)]).convert("L").crop((4, 4, 60, 60)).resize((8, 8))
            correlation = np.corrcoef(np.asarray(small, float).ravel(), images[number].ravel())[0, 1]
            assert correlation * sign > 0.9


@pytest.mark.parametrize(
    ("name", "colours"),
    [("fr", {"blue", "white", "red"}), ("de", {"black", "red", "yellow"}), ("flag ua", {"blue", "yellow"})],
)
@pytest.mark.slow
def test_flags_have_their_colours(name: str, colours: set[str]) -> None:
    thing = next(icon for icon in icons() if icon.name == name)
    picture = scenes.flag(BankBuilder(), thing, "flat")
    assert set(picture["colours"]) == colours
    assert picture["clear"]
