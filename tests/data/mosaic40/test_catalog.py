from collections import defaultdict

import numpy as np
import pytest

from fedmosaic.data.mosaic40 import charts, sprites, styles
from fedmosaic.data.mosaic40.catalog import PARTS, PUBLIC, icons
from fedmosaic.data.mosaic40.kinds import CATEGORIES
from fedmosaic.errors import DataError, SettingsError


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
    image = styles.Image.new("RGBA", (58, 58), colour)
    assert sprites.main_colour(image) == name
    styles.ImageDraw.Draw(image).rectangle((0, 0, 58, 20), fill="black")  # an outline is not the colour
    assert sprites.main_colour(image) == name


def test_a_missing_drawing_is_explained() -> None:
    with pytest.raises(DataError, match="FFFFF"):
        sprites.sprite("flat", "FFFFF")
    assert not sprites.available("FFFFF")


def test_styles_change_the_look_strongly_and_repeatably() -> None:
    icon = next(icon for icon in icons() if icon.name == "dog2")
    drawn = {style: styles.draw(style, [styles.centred(icon.code)], part=icon.part, seed=1) for style in styles.STYLES}
    names = list(drawn)
    for i, one in enumerate(names):
        assert drawn[one].size == (64, 64)
        again = styles.draw(one, [styles.centred(icon.code)], part=icon.part, seed=1)
        assert styles.difference(drawn[one], again) == 0
        for other in names[i + 1 :]:
            assert styles.difference(drawn[one], drawn[other]) > 5, (one, other)
    with pytest.raises(SettingsError, match="blueprint"):
        styles.draw("bluprint", [], part=PUBLIC, seed=0)
