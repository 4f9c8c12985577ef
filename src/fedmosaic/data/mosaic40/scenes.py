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
from sklearn.datasets import load_digits

from fedmosaic.data.mosaic40 import sprites, styles
from fedmosaic.data.mosaic40.bank import Canvas, Picture
from fedmosaic.data.mosaic40.catalog import Icon
from fedmosaic.data.mosaic40.styles import SIDE, Placed

RELATIONS = ("left", "right", "above", "below")
EDITS = ("rotated", "flipped", "gray", "inverted", "smaller", "larger")
CHANGES = ("moved", "replaced", "removed", "added")
CELLS = ("top left", "top right", "bottom left", "bottom right")
FLAG_COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def icon(canvas: Canvas, thing: Icon, style: str, rng: random.Random, part: str) -> Picture | None:
    """Draw one icon on its own; None if another part shows a thing that looks the same in this style."""
    image = styles.draw(style, [styles.centred(thing.code)], part=part, seed=rng.getrandbits(32))
    if canvas.is_repeat(image):
        return None
    return canvas.add(
        image,
        "icon",
        style,
        code=thing.code,
        name=thing.name,
        category=thing.category,
        group=thing.group,
        colour=thing.colour,
    )


def count(canvas: Canvas, things: Sequence[Icon], style: str, rng: random.Random, part: str) -> Picture:
    """Draw one thing one to five times, at random places that do not overlap."""
    thing, number = rng.choice(things), rng.randint(1, 5)
    placed = []
    for cell in rng.sample(range(9), number):
        side = rng.randint(17, 21)
        left, top = (cell % 3) * 21 + rng.randint(0, 21 - side), (cell // 3) * 21 + rng.randint(0, 21 - side)
        placed.append(Placed(thing.code, left, top, side))
    image = styles.draw(style, placed, part=part, seed=rng.getrandbits(32))
    return canvas.add(image, "count", style, category=thing.category, number=number)


def pair(canvas: Canvas, things: Sequence[Icon], style: str, rng: random.Random, part: str) -> Picture:
    """Draw two things of different categories beside or above each other."""
    first, second = _unlike(things, 2, rng)
    relation = rng.choice(RELATIONS)
    near, far, along, across = rng.randint(0, 3), rng.randint(31, 34), rng.randint(2, 32), rng.randint(2, 32)
    if relation in {"right", "below"}:
        near, far = far, near
    boxes = ((near, along), (far, across))
    if relation in {"above", "below"}:
        boxes = ((along, near), (across, far))
    placed = [Placed(thing.code, *box, 30) for thing, box in zip((first, second), boxes, strict=True)]
    image = styles.draw(style, placed, part=part, seed=rng.getrandbits(32))
    return canvas.add(image, "pair", style, first=first.category, second=second.category, relation=relation)


def grid(canvas: Canvas, things: Sequence[Icon], style: str, rng: random.Random, part: str) -> tuple[Picture, Picture]:
    """Draw two or three things in the quarters of an image, and the same with one change."""
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
    base = _draw_grid(canvas, before, style, part, seed)
    return base, _draw_grid(canvas, after, style, part, seed, change=change, base=base.key)


def _draw_grid(canvas: Canvas, cells: Sequence[Icon | None], style: str, part: str, seed: int, **facts: str) -> Picture:
    corners = ((2, 2), (34, 2), (2, 34), (34, 34))
    placed = [Placed(thing.code, *corner, 28) for thing, corner in zip(cells, corners, strict=True) if thing]
    image = styles.draw(style, placed, part=part, seed=seed)
    return canvas.add(image, "grid", style, cells=[thing.category if thing else "" for thing in cells], **facts)


def edits(canvas: Canvas, thing: Icon, style: str, rng: random.Random, part: str) -> list[Picture]:
    """Draw an icon, and every edit of it that can be seen; a symmetric icon has no flipped version."""
    seed = rng.getrandbits(32)
    plain = styles.draw(style, [styles.centred(thing.code)], part=part, seed=seed)
    drawn = {
        "rotated": _placed(thing, style, part, seed, turn=rng.choice((90, 180, 270))),
        "flipped": _placed(thing, style, part, seed, mirrored=True),
        "gray": ImageOps.grayscale(plain).convert("RGB"),
        "inverted": ImageOps.invert(plain),
        "smaller": _placed(thing, style, part, seed, side=32),
        "larger": _placed(thing, style, part, seed, side=100),
    }
    ink = styles.difference(plain, styles.draw(style, [], part=part, seed=seed))
    least = {"rotated": 0.6 * ink, "flipped": 0.6 * ink}  # a nearly symmetric thing looks the same when flipped
    visible = {edit: image for edit, image in drawn.items() if styles.difference(plain, image) > least.get(edit, 9)}
    if len(visible) < 4:
        return []
    base = canvas.add(plain, "base", style, category=thing.category, code=thing.code)
    return [
        canvas.add(image, "edit", style, base=base.key, edit=edit, category=thing.category, code=thing.code)
        for edit, image in visible.items()
    ]


def _placed(
    thing: Icon,
    style: str,
    part: str,
    seed: int,
    *,
    side: int = sprites.SIZE,
    turn: int = 0,
    mirrored: bool = False,
) -> Image.Image:
    placed = styles.centred(thing.code, side, turn=turn, mirrored=mirrored)
    return styles.draw(style, [placed], part=part, seed=seed)


def flag(canvas: Canvas, thing: Icon, vendor: str) -> Picture:
    """Draw one country's flag; its colours are those that cover at least a twelfth of it."""
    sprite = sprites.sprite(vendor, thing.code)
    image = Image.new("RGBA", (SIDE, SIDE), "#cfd6dd")
    image.alpha_composite(sprite, ((SIDE - sprite.width) // 2,) * 2)
    shares = sprites.colour_shares(sprites.sprite("flat", thing.code))
    clear = all(share > 0.08 or share < 0.015 for share in shares.values())
    colours = [colour for colour in FLAG_COLOURS if shares.get(colour, 0) > 0.08]
    return canvas.add(image, "flag", "flags", code=thing.code, colours=colours, clear=clear)


def digit(canvas: Canvas, number: int, look: str) -> Picture:
    """Draw the scan of a handwritten digit: ``ink`` on paper or ``chalk`` on a board."""
    scans = load_digits_once()
    gray = Image.fromarray((scans[0][number] * 15.9).clip(0, 255).astype(np.uint8))
    gray = gray.resize((56, 56), Image.Resampling.BICUBIC)
    dark, light = ("#fbfaf4", "#14142b") if look == "ink" else ("#21443a", "#f4f1de")
    image = Image.new("RGB", (SIDE, SIDE), dark)
    image.paste(ImageOps.colorize(gray, dark, light), (4, 4))
    return canvas.add(image, "digit", look, digit=int(scans[1][number]))


_DIGITS: list[tuple[np.ndarray, np.ndarray]] = []


def load_digits_once() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 scans (n, 8, 8) with values 0 to 16, and their digits (n,)."""
    if not _DIGITS:
        bunch = load_digits()
        _DIGITS.append((bunch.images, bunch.target))
    return _DIGITS[0]


def _unlike(things: Sequence[Icon], number: int, rng: random.Random) -> list[Icon]:
    """Return things of different categories, each category equally likely."""
    by_category: dict[str, list[Icon]] = {}
    for thing in things:
        by_category.setdefault(thing.category, []).append(thing)
    return [rng.choice(by_category[category]) for category in rng.sample(sorted(by_category), number)]
