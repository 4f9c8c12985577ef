"""Pictures composed of icons: single icons, counts, pairs, 2 x 2 grids, edits, flags, digits.

Facts by kind:
    icon: code, name, category, group, colour
    flag: code, colours (list)
    count: category, number
    pair: first, second (categories), relation of the first to the second (left, right, above, below)
    grid: cells (list of four categories or ""), change (how it differs from its base) and base (key), or none of them
    edit: base (key of the unedited icon), edit, category
    digit: digit
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from fedmosaic.data.mosaic40 import rendering, sprites
from fedmosaic.data.mosaic40.bank import BankBuilder, Picture
from fedmosaic.data.mosaic40.catalog import Icon
from fedmosaic.data.mosaic40.rendering import SIDE, Placed

RELATIONS = ("left", "right", "above", "below")
EDITS = ("rotated", "flipped", "gray", "inverted", "smaller", "larger")
CHANGES = ("moved", "replaced", "removed", "added")
CELLS = ("top left", "top right", "bottom left", "bottom right")
FLAG_COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def icon(builder: BankBuilder, thing: Icon, domain: str, rng: random.Random, part: str) -> Picture | None:
    """Draw one icon and return its picture.

    Args:
        builder: stores the picture.
        thing: what to draw.
        domain: the visual domain.
        rng: draws the background.
        part: whose photographs the background may be cut from.

    Returns:
        The picture, or None if an earlier part holds exactly the same image.
    """
    image = rendering.draw(domain, [rendering.centred(thing.code)], part=part, seed=rng.getrandbits(32))
    if builder.is_duplicate(image):
        return None
    return builder.add(
        image,
        "icon",
        domain,
        code=thing.code,
        name=thing.name,
        category=thing.category,
        group=thing.group,
        colour=thing.colour,
    )


def count(builder: BankBuilder, things: Sequence[Icon], domain: str, rng: random.Random, part: str) -> Picture:
    """Draw one thing one to five times, at random places that do not overlap, and return the picture.

    Args:
        builder: stores the picture.
        things: to choose from.
        domain: the visual domain.
        rng: draws thing, number and places.
        part: whose photographs the background may be cut from.
    """
    thing, number = rng.choice(things), rng.randint(1, 5)
    placed = []
    for cell in rng.sample(range(9), number):
        side = rng.randint(17, 21)
        left, top = (cell % 3) * 21 + rng.randint(0, 21 - side), (cell // 3) * 21 + rng.randint(0, 21 - side)
        placed.append(Placed(thing.code, left, top, side))
    image = rendering.draw(domain, placed, part=part, seed=rng.getrandbits(32))
    return builder.add(image, "count", domain, category=thing.category, number=number)


def pair(builder: BankBuilder, things: Sequence[Icon], domain: str, rng: random.Random, part: str) -> Picture:
    """Draw two things of different categories beside or above each other and return the picture.

    Args:
        builder: stores the picture.
        things: to choose from.
        domain: the visual domain.
        rng: draws things and places.
        part: whose photographs the background may be cut from.
    """
    first, second = _unlike(things, 2, rng)
    relation = rng.choice(RELATIONS)
    near, far, along, across = rng.randint(0, 3), rng.randint(31, 34), rng.randint(2, 32), rng.randint(2, 32)
    if relation in {"right", "below"}:
        near, far = far, near
    boxes = ((near, along), (far, across))
    if relation in {"above", "below"}:
        boxes = ((along, near), (across, far))
    placed = [Placed(thing.code, *box, 30) for thing, box in zip((first, second), boxes, strict=True)]
    image = rendering.draw(domain, placed, part=part, seed=rng.getrandbits(32))
    return builder.add(image, "pair", domain, first=first.category, second=second.category, relation=relation)


def grid(
    builder: BankBuilder, things: Sequence[Icon], domain: str, rng: random.Random, part: str
) -> tuple[Picture, Picture]:
    """Draw two or three things in the quarters of an image, and the same with one change; return both pictures.

    Args:
        builder: stores the pictures.
        things: to choose from.
        domain: the visual domain.
        rng: draws things, places and the change.
        part: whose photographs the background may be cut from.
    """
    before: list[Icon | None] = [*_unlike(things, 2, rng), None, None]
    rng.shuffle(before)
    change = rng.choice(CHANGES)
    after = list(before)
    full = rng.choice([i for i, thing in enumerate(before) if thing])
    empty = rng.choice([i for i, thing in enumerate(before) if not thing])
    other = next(t for t in _unlike(things, 3, rng) if t.category not in {b.category for b in before if b})
    if change == "moved":
        after[empty], after[full] = after[full], None
    elif change == "replaced":
        after[full] = other
    elif change == "removed":
        after[full] = None
    else:
        after[empty] = other
    seed = rng.getrandbits(32)
    base = _draw_grid(builder, before, domain, part, seed)
    return base, _draw_grid(builder, after, domain, part, seed, change=change, base=base.key)


def _draw_grid(
    builder: BankBuilder, cells: Sequence[Icon | None], domain: str, part: str, seed: int, **facts: str
) -> Picture:
    corners = ((2, 2), (34, 2), (2, 34), (34, 34))
    placed = [Placed(thing.code, *corner, 28) for thing, corner in zip(cells, corners, strict=True) if thing]
    image = rendering.draw(domain, placed, part=part, seed=seed)
    return builder.add(image, "grid", domain, cells=[thing.category if thing else "" for thing in cells], **facts)


def edits(builder: BankBuilder, thing: Icon, domain: str, rng: random.Random, part: str) -> list[Picture]:
    """Draw an icon and every visible edit of it, and return the edited pictures.

    A symmetric icon has no flipped version.

    Args:
        builder: stores the pictures.
        thing: what to draw.
        domain: the visual domain.
        rng: draws the background and the rotation.
        part: whose photographs the background may be cut from.

    Returns:
        Four to six pictures; none (and nothing is stored) where fewer than four edits are visible.
    """
    seed = rng.getrandbits(32)
    plain = rendering.draw(domain, [rendering.centred(thing.code)], part=part, seed=seed)
    drawn = {
        "rotated": _placed(thing, domain, part, seed, turn=rng.choice((90, 180, 270))),
        "flipped": _placed(thing, domain, part, seed, mirrored=True),
        "gray": ImageOps.grayscale(plain).convert("RGB"),
        "inverted": ImageOps.invert(plain),
        "smaller": _placed(thing, domain, part, seed, side=32),
        "larger": _placed(thing, domain, part, seed, side=100),
    }
    ink = rendering.difference(plain, rendering.draw(domain, [], part=part, seed=seed))
    least = {"rotated": 0.6 * ink, "flipped": 0.6 * ink}  # a nearly symmetric thing hardly changes when flipped
    visible = {edit: image for edit, image in drawn.items() if rendering.difference(plain, image) > least.get(edit, 9)}
    if len(visible) < 4:
        return []
    base = builder.add(plain, "base", domain, category=thing.category, code=thing.code)
    return [
        builder.add(image, "edit", domain, base=base.key, edit=edit, category=thing.category, code=thing.code)
        for edit, image in visible.items()
    ]


def _placed(
    thing: Icon,
    domain: str,
    part: str,
    seed: int,
    *,
    side: int = sprites.SIZE,
    turn: int = 0,
    mirrored: bool = False,
) -> Image.Image:
    placed = rendering.centred(thing.code, side, turn=turn, mirrored=mirrored)
    return rendering.draw(domain, [placed], part=part, seed=seed)


def flag(builder: BankBuilder, thing: Icon, vendor: str) -> Picture:
    """Draw one country's flag and return the picture; its colours are those that cover more than 8 % of it.

    Args:
        builder: stores the picture.
        thing: the flag's icon.
        vendor: ``colour`` or ``flat``, see :data:`~fedmosaic.data.mosaic40.sprites.VENDORS`.
    """
    sprite = sprites.sprite(vendor, thing.code)
    image = Image.new("RGBA", (SIDE, SIDE), "#cfd6dd")
    image.alpha_composite(sprite, ((SIDE - sprite.width) // 2,) * 2)
    shares = sprites.colour_shares(sprites.sprite("flat", thing.code))
    clear = all(share > 0.08 or share < 0.015 for share in shares.values())
    colours = [colour for colour in FLAG_COLOURS if shares.get(colour, 0) > 0.08]
    return builder.add(image, "flag", "flags", code=thing.code, colours=colours, clear=clear)


def digit(builder: BankBuilder, number: int, domain: str) -> Picture:
    """Draw the scan of a handwritten digit and return the picture.

    Args:
        builder: stores the picture.
        number: index of the scan.
        domain: ``ink`` (dark on paper) or ``chalk`` (bright on a board).
    """
    scans = load_digits_once()
    gray = Image.fromarray((scans[0][number] * 15.9).clip(0, 255).astype(np.uint8))
    gray = gray.resize((56, 56), Image.Resampling.BICUBIC)
    dark, light = ("#fbfaf4", "#14142b") if domain == "ink" else ("#21443a", "#f4f1de")
    image = Image.new("RGB", (SIDE, SIDE), dark)
    image.paste(ImageOps.colorize(gray, dark, light), (4, 4))
    return builder.add(image, "digit", domain, digit=int(scans[1][number]))


_DIGITS: list[tuple[np.ndarray, np.ndarray]] = []


def load_digits_once() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 scans (n, 8, 8) with values 0 to 16, and their digits (n,)."""
    if not _DIGITS:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second to import, needed to build only

        bunch = load_digits()
        _DIGITS.append((bunch.images, bunch.target))
    return _DIGITS[0]


def _unlike(things: Sequence[Icon], number: int, rng: random.Random) -> list[Icon]:
    """Return things of different categories, each category equally likely."""
    by_category: dict[str, list[Icon]] = {}
    for thing in things:
        by_category.setdefault(thing.category, []).append(thing)
    return [rng.choice(by_category[category]) for category in rng.sample(sorted(by_category), number)]
