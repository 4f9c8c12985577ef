"""Number and kind of the pictures that are drawn for the clients' tasks and for the public part."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise

from fedmosaic.data.mosaic40 import charts, scenes, sprites
from fedmosaic.data.mosaic40.bank import BankBuilder
from fedmosaic.data.mosaic40.catalog import PUBLIC, TEST, TRAIN, VALIDATION, Icon, icons
from fedmosaic.data.mosaic40.categories import AMBIGUOUS_ICONS, DISTINCT_CATEGORIES
from fedmosaic.data.mosaic40.tasks import SEEN, UNSEEN, parse
from fedmosaic.seeding import derive, rng

# Number of pictures of each kind in each domain, for each of the clients' parts.
CLIENT_COUNTS = {
    "count": {TRAIN: 170, VALIDATION: 100, TEST: 140},
    "pair": {TRAIN: 180, VALIDATION: 96, TEST: 132},
    "grid": {TRAIN: 200, VALIDATION: 88, TEST: 132},
    "edit": {TRAIN: 38, VALIDATION: 20, TEST: 28},  # icons; each gives up to six edits
    "bars": {TRAIN: 200, VALIDATION: 92, TEST: 136},
    "pie": {TRAIN: 180, VALIDATION: 92, TEST: 136},
    "line": {TRAIN: 200, VALIDATION: 92, TEST: 136},
    "hill": {TRAIN: 200, VALIDATION: 92, TEST: 136},
    "digit": {TRAIN: 160, VALIDATION: 88, TEST: 128},
}
# The public part; no picture in the ``stencil`` domain, and few in the domains that are mostly the clients'.
PUBLIC_COUNTS = {
    ("count", "openmoji"): 220,
    ("count", "twemoji"): 220,
    ("count", "line"): 140,
    ("count", "photo"): 140,
    ("count", "blueprint"): 60,
    ("count", "night"): 60,
    ("pair", "openmoji"): 260,
    ("pair", "twemoji"): 260,
    ("pair", "line"): 140,
    ("pair", "photo"): 160,
    ("grid", "openmoji"): 160,
    ("grid", "twemoji"): 160,
    ("grid", "photo"): 80,
    ("edit", "openmoji"): 60,
    ("edit", "twemoji"): 60,
    ("edit", "line"): 25,
    ("edit", "photo"): 20,
    ("bars", "bars"): 360,
    ("bars", "hbars"): 120,
    ("pie", "pies"): 240,
    ("line", "lines"): 120,
    ("line", "screen"): 60,
    ("digit", "ink"): 600,
    ("digit", "chalk"): 150,
}
PUBLIC_ICON_DOMAINS = ("openmoji", "twemoji", "line", "photo", "blueprint", "pixel", "night")
# Of the domains that are mostly the clients', the public part has only some icons.
PUBLIC_ICONS = {"blueprint": 150, "pixel": 150, "night": 150}


_VISIBLE_SHARE = 0.04  # smaller shares of a flag's area do not count as a colour of it


def needed() -> list[tuple[str, str]]:
    """Return the (kind, domain) pairs that the clients' and the unseen tasks need."""
    parsed = (parse(name) for name in (*SEEN, *UNSEEN))
    return sorted({(skill.kind, domain) for skill, domain in parsed})


def draw_clients(builder: BankBuilder, part: str, seed: int) -> None:
    """Draw all pictures of one of the clients' parts.

    Args:
        builder: stores the pictures.
        part: ``train``, ``validation`` or ``test``.
        seed: the benchmark's seed.
    """
    for kind, domain in needed():
        number = CLIENT_COUNTS.get(kind, {}).get(part, 0)
        _draw(builder, kind, domain, number, part, random.Random(derive(seed, part, kind, domain)))


def draw_public(builder: BankBuilder, seed: int) -> None:
    """Draw all pictures of the public part.

    Args:
        builder: stores the pictures.
        seed: the benchmark's seed.
    """
    for domain in PUBLIC_ICON_DOMAINS:
        _draw(builder, "icon", domain, PUBLIC_ICONS.get(domain, 0), PUBLIC, random.Random(derive(seed, PUBLIC, domain)))
    for (kind, domain), number in PUBLIC_COUNTS.items():
        _draw(builder, kind, domain, number, PUBLIC, random.Random(derive(seed, PUBLIC, kind, domain)))
    _draw(builder, "flag", "flags", 0, PUBLIC, random.Random(derive(seed, PUBLIC, "flag")))


def _draw(builder: BankBuilder, kind: str, domain: str, number: int, part: str, order: random.Random) -> None:
    """Draw ``number`` pictures of one kind and domain; for icons and flags, 0 means all."""
    things = [thing for thing in icons() if thing.part == part and (thing.category == "flag") == (kind == "flag")]
    if part != PUBLIC:
        things = [thing for thing in things if not _is_ambiguous(thing)]
        if kind == "pair":  # questions about positions name things by category: it must be recognisable
            things = [thing for thing in things if thing.category in DISTINCT_CATEGORIES]
    if kind == "icon":
        for thing in order.sample(things, number) if number else things:
            scenes.icon(builder, thing, domain, order, part)
    elif kind == "flag":
        for thing in things:
            for vendor in ("colour", "flat"):
                scenes.flag(builder, thing, vendor)
    elif kind == "digit":
        for scan in _scans(part, domain, number):
            scenes.digit(builder, scan, domain)
    elif kind == "edit":
        _draw_edits(builder, things, domain, number, part, order)
    else:
        for _ in range(number):
            _draw_one(builder, kind, domain, things, part, order)


def _is_ambiguous(thing: Icon) -> bool:
    """Whether people would disagree on an icon's kind, or on a flag's colours (maroon or orange may pass for red)."""
    if thing.category != "flag":
        return thing.name in AMBIGUOUS_ICONS
    shares = sprites.colour_shares(sprites.sprite("flat", thing.code))
    return any(shares.get(colour, 0.0) > _VISIBLE_SHARE for colour in ("orange", "pink", "purple", "brown"))


def _draw_one(
    builder: BankBuilder, kind: str, domain: str, things: Sequence[Icon], part: str, order: random.Random
) -> None:
    if kind == "bars":
        charts.bars(builder, domain, order, part)
    elif kind == "pie":
        charts.pie(builder, order, part)
    elif kind in {"line", "hill"}:
        {"line": charts.line, "hill": charts.hill}[kind](builder, domain, order, part)
    else:
        {"count": scenes.count, "pair": scenes.pair, "grid": scenes.grid}[kind](builder, things, domain, order, part)


def _draw_edits(
    builder: BankBuilder, things: Sequence[Icon], domain: str, number: int, part: str, order: random.Random
) -> None:
    drawn = 0
    for thing in order.sample(list(things), len(things)):
        drawn += bool(scenes.edits(builder, thing, domain, order, part))
        if drawn == number:
            return


def _scans(part: str, domain: str, number: int) -> Iterable[int]:
    """Return the digit scans of a part; the two domains take them from opposite ends, so that few scans are in both."""
    total = len(scenes.load_digits_once()[1])
    scans = rng(40, "digits").permutation(total)
    cuts = [round(total * share) for share in (0.45, 0.78, 0.87)]
    mine = dict(zip((PUBLIC, TRAIN, VALIDATION, TEST), (list(s) for s in _cut(scans.tolist(), cuts)), strict=True))[
        part
    ]
    return (mine if domain == "ink" else mine[::-1])[:number]


def _cut(items: list[int], cuts: Sequence[int]) -> list[list[int]]:
    ends = [0, *cuts, len(items)]
    return [items[start:end] for start, end in pairwise(ends)]
