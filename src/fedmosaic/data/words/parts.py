"""Who may see what: every word, pair of words and number of a task lies in one part."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from typing import TypeVar

from fedmosaic.seeding import derive

PUBLIC, TRAIN, VALIDATION, TEST = "public", "train", "validation", "test"
PARTS = (PUBLIC, TRAIN, VALIDATION, TEST)
SHARES = {PUBLIC: 0.19, TRAIN: 0.38, VALIDATION: 0.17, TEST: 0.26}
SEED = 12

_T = TypeVar("_T")


def part_of_list(name: str, items: Sequence[_T], part: str) -> tuple[_T, ...]:
    """Return the items of a list that are a part's; each item is exactly one part's.

    Args:
        name: of the list: another one is dealt otherwise.
        items: at least a few for each part.
        part: one of :data:`PARTS`.
    """
    dealt = list(items)
    random.Random(derive(SEED, "words", name)).shuffle(dealt)
    ends = [round(len(dealt) * share) for share in itertools.accumulate(SHARES.values())]
    at = PARTS.index(part)
    return tuple(dealt[ends[at - 1] if at else 0 : ends[at]])


def part_of(*content: object) -> str:
    """Return the part of some content that is not listed, such as two numbers.

    Args:
        content: what must not be in two parts, in a fixed order.
    """
    digest = hashlib.blake2b(repr((SEED, *content)).encode(), digest_size=8).digest()
    at = int.from_bytes(digest, "big") / 2**64
    for part, end in zip(PARTS, itertools.accumulate(SHARES.values()), strict=True):
        if at < end:
            return part
    return TEST
