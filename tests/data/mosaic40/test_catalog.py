import random
from collections import defaultdict

import numpy as np
import pytest

from fedmosaic.data.mosaic40 import charts, recipe, rendering, sprites
from fedmosaic.data.mosaic40.bank import BankBuilder
from fedmosaic.data.mosaic40.catalog import PARTS, PUBLIC, TEST, icons
from fedmosaic.data.mosaic40.categories import AMBIGUOUS_ICONS, CATEGORIES, disjoint_categories
from fedmosaic.errors import DataError, SettingsError

pytestmark = pytest.mark.slow  # the catalogue's groups take seconds to find


def test_a_group_of_near_copies_lies_in_one_part() -> None:
    parts = defaultdict(set)
    for icon in icons():
        parts[icon.group].add(icon.part)
    assert {len(found) for found in parts.values()} == {1}


@pytest.mark.parametrize(
    "names",
    [
        ("male farmer", "female farmer", "farmer"),
        ("man swimming", "woman swimming", "swimmer"),
        ("closed book", "green book", "blue book"),
        ("flag no", "flag sj", "flag bv"),  # one flag, three territories
        ("smiley", "smile", "grinning"),
        ("dog", "dog2"),
        ("moon", "full moon", "new moon"),
    ],
)
def test_known_variants_are_of_one_group(names: tuple[str, ...]) -> None:
    found = {icon.name: icon.group for icon in icons()}
    groups = {found[name] for name in names if name in found}
    assert len(groups) == 1


def test_no_two_parts_show_nearly_the_same_drawing() -> None:
    """Flat drawings (of another vendor than the one the groups were made from), compared across parts."""
    chosen = icons()[::3]
    small = np.stack(
        [
            np.asarray(sprites.on_white(sprites.sprite("flat", icon.code)).resize((16, 16)), np.float32).ravel()
            for icon in chosen
        ]
    )
    parts = np.array([PARTS.index(icon.part) for icon in chosen])
    for i in range(len(chosen)):
        others = np.flatnonzero(parts != parts[i])
        distance = np.abs(small[others] - small[i]).mean(axis=1)
        closest = chosen[int(others[distance.argmin()])]
        assert distance.min() > 1.0, (chosen[i].name, closest.name)


def test_every_kind_has_icons_in_every_part() -> None:
    counts = defaultdict(int)
    for icon in icons():
        counts[icon.category, icon.part] += 1
    for category in (*CATEGORIES, "flag"):
        for part in PARTS:
            assert counts[category, part] >= (4 if part == PUBLIC else 1), (category, part)


def test_no_table_column_is_drawn_in_two_parts() -> None:
    for table in (charts.columns, charts.series):
        names = [name for part in PARTS for name, _ in table(part)]
        assert len(names) == len(set(names))
        assert all(table(part) for part in PARTS)


@pytest.mark.parametrize(("colour", "name"), [("#ff0000", "red"), ("#1133cc", "blue"), ("#777777", "gray")])
def test_the_main_colour_is_the_one_seen(colour: str, name: str) -> None:
    image = rendering.Image.new("RGBA", (58, 58), colour)
    assert sprites.main_colour(image) == name
    rendering.ImageDraw.Draw(image).rectangle((0, 0, 58, 20), fill="black")  # an outline is not the colour
    assert sprites.main_colour(image) == name


def test_a_missing_drawing_is_explained() -> None:
    with pytest.raises(DataError, match="FFFFF"):
        sprites.sprite("flat", "FFFFF")
    assert not sprites.available("FFFFF")


def test_styles_change_the_look_strongly_and_repeatably() -> None:
    icon = next(icon for icon in icons() if icon.name == "dog2")
    drawn = {
        domain: rendering.draw(domain, [rendering.centred(icon.code)], part=icon.part, seed=1)
        for domain in rendering.ICON_DOMAINS
    }
    names = list(drawn)
    for i, one in enumerate(names):
        assert drawn[one].size == (64, 64)
        again = rendering.draw(one, [rendering.centred(icon.code)], part=icon.part, seed=1)
        assert rendering.difference(drawn[one], again) == 0
        for other in names[i + 1 :]:
            assert rendering.difference(drawn[one], drawn[other]) > 5, (one, other)
    with pytest.raises(SettingsError, match="blueprint"):
        rendering.draw("bluprint", [], part=PUBLIC, seed=0)


def test_near_kinds_are_near_both_ways_and_leave_enough_others() -> None:
    for kind in CATEGORIES:
        assert kind not in disjoint_categories(kind)
        assert len(disjoint_categories(kind)) >= 15
        for other in CATEGORIES:
            assert (other in disjoint_categories(kind)) == (kind in disjoint_categories(other))
    assert "sport" not in disjoint_categories("person")
    assert "tool" in disjoint_categories("bird")


def test_a_stencil_shows_rim_and_inner_lines() -> None:
    """A disc with two dark eyes must not become a plain disc."""
    face = rendering.Image.new("RGBA", (58, 58))
    pen = rendering.ImageDraw.Draw(face)
    pen.ellipse((2, 2, 55, 55), fill="#ffcc4d")
    for left in (16, 34):
        pen.ellipse((left, 20, left + 8, 30), fill="#664500")
    ink = np.asarray(rendering._stencil(face, "#3a2412").getchannel("A")) > 0
    assert ink[24, 20]
    assert ink[24, 38]
    assert ink[28, 3]  # the rim
    assert not ink[40, 28]  # the cheek
    assert ink.mean() < 0.3


def test_no_client_is_asked_about_disputed_icons_or_flags() -> None:
    names = {icon.name for icon in icons()}
    assert len(AMBIGUOUS_ICONS & names) > 10
    shown = BankBuilder()
    for kind, domain in (("icon", "line"), ("flag", "flags")):
        recipe._draw(shown, kind, domain, 0, TEST, random.Random(0))
    drawn = {picture["code"] for picture in shown.pictures}
    assert not drawn & {icon.code for icon in icons() if icon.name in AMBIGUOUS_ICONS}
    orange = {icon.code for icon in icons() if icon.name in {"flag ne", "flag lk", "flag am"}}
    assert orange
    assert not drawn & orange
