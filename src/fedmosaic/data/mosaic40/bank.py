"""Pictures with known facts, the builder that collects them, and pools from which questions draw them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedmosaic.errors import DataError

Facts = Mapping[str, Any]  # JSON values only: strings, numbers, booleans, lists of these


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of the bank.

    Attributes:
        key: the image's key in the bank, ``"%06d"``.
        kind: ``icon``, ``count``, ``pair``, ``grid``, ``edit``, ``bars``, ``pie``, ``line``, ``digit`` or ``flag``.
        domain: its visual style, e.g. ``blueprint``.
        facts: what is known about it; the keys depend on the kind (see ``scenes.py`` and ``charts.py``).
    """

    key: str
    kind: str
    domain: str
    facts: Facts = field(hash=False)

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]


class BankBuilder:
    """Collects images and their pictures while a bank is drawn.

    Attributes:
        images: the images so far, (64, 64, 3) uint8 each.
        pictures: their pictures, in the same order.
    """

    def __init__(self) -> None:
        self.images: list[NDArray[np.uint8]] = []
        self.pictures: list[Picture] = []
        self._before: set[bytes] = set()  # images of the parts before the current one

    def close_part(self) -> None:
        """End the current part: :meth:`is_duplicate` compares later images with those drawn so far."""
        self._before.update(image.tobytes() for image in self.images)

    def is_duplicate(self, image: Image.Image) -> bool:
        """Return whether an earlier part holds exactly this image.

        Args:
            image: 64 x 64 pixels, any mode.
        """
        return image.convert("RGB").tobytes() in self._before

    def add(self, image: Image.Image, kind: str, domain: str, **facts: Any) -> Picture:
        """Store one image and return its picture.

        Args:
            image: 64 x 64 pixels, any mode; stored as RGB.
            kind: the picture's kind, see :class:`Picture`.
            domain: its visual style.
            facts: what is known about it; JSON values.
        """
        picture = Picture(f"{len(self.images):06d}", kind, domain, facts)
        self.images.append(np.asarray(image.convert("RGB"), dtype=np.uint8))
        self.pictures.append(picture)
        return picture


class Pool:
    """The pictures of one part of the benchmark (public, train, validation or test), indexed by kind, domain and facts.

    Args:
        pictures: all pictures of the part.
    """

    def __init__(self, pictures: Iterable[Picture]) -> None:
        self.pictures = tuple(pictures)
        self._of: dict[tuple[str, str], list[Picture]] = defaultdict(list)
        self._icons: dict[tuple[str, str], list[Picture]] = defaultdict(list)
        self._views: dict[str, list[Picture]] = defaultdict(list)
        self._values: dict[tuple[str, str, str], dict[Any, list[Picture]]] = {}
        self._by_key = {picture.key: picture for picture in self.pictures}
        for picture in self.pictures:
            self._of[picture.kind, picture.domain].append(picture)
            if picture.kind == "icon":
                self._icons[picture.domain, picture["category"]].append(picture)
                self._views[picture["code"]].append(picture)

    def __getitem__(self, key: str) -> Picture:
        return self._by_key[key]

    def all(self, kind: str, domain: str) -> Sequence[Picture]:
        """Return all pictures of a kind in a domain.

        Args:
            kind: the pictures' kind.
            domain: their domain.

        Raises:
            DataError: there are none.
        """
        found = self._of.get((kind, domain))
        if not found:
            raise DataError(f"the bank holds no {kind!r} pictures in the domain {domain!r}; draw some before asking")
        return found

    def by_fact(self, kind: str, domain: str, fact: str) -> Mapping[Any, Sequence[Picture]]:
        """Return the pictures of a kind in a domain, grouped by the value of one fact; values in sorted order.

        Args:
            kind: the pictures' kind.
            domain: their domain.
            fact: name of the fact; pictures without it are left out.

        Raises:
            DataError: there are no such pictures.
        """
        key = (kind, domain, fact)
        if key not in self._values:
            found: dict[Any, list[Picture]] = defaultdict(list)
            for picture in self.all(kind, domain):
                if fact in picture.facts:
                    found[picture[fact]].append(picture)
            self._values[key] = {value: found[value] for value in sorted(found)}
        return self._values[key]

    def balanced(self, kind: str, domain: str, fact: str, rng: random.Random) -> Picture:
        """Return a random picture; each value of one fact, but for the empty text, is equally likely.

        Args:
            kind: the picture's kind.
            domain: its domain.
            fact: name of the fact.
            rng: draws the value, then the picture.

        Raises:
            DataError: there are no such pictures.
        """
        by_value = self.by_fact(kind, domain, fact)
        return rng.choice(by_value[rng.choice([value for value in by_value if value != ""])])

    def domains(self, kind: str) -> list[str]:
        """Return the domains that have pictures of this kind, in a fixed order.

        Args:
            kind: the pictures' kind.
        """
        return sorted(domain for k, domain in self._of if k == kind)

    def one(self, kind: str, domain: str, rng: random.Random) -> Picture:
        """Return a random picture of a kind in a domain.

        Args:
            kind: the picture's kind.
            domain: its domain.
            rng: draws the picture.

        Raises:
            DataError: there are no such pictures.
        """
        return rng.choice(self.all(kind, domain))

    def icon(self, category: str, domain: str, rng: random.Random, *, apart_from: Sequence[Picture] = ()) -> Picture:
        """Return a random icon of a category.

        Args:
            category: the icon's category.
            domain: its domain.
            rng: draws the icon.
            apart_from: pictures whose things are not drawn again.

        Raises:
            DataError: there is no icon left.
        """
        shown = {picture["code"] for picture in apart_from if picture.kind == "icon"}
        choice = [picture for picture in self._icons[domain, category] if picture["code"] not in shown]
        if not choice:
            raise DataError(f"too few icons of {category!r} in the domain {domain!r}: {len(shown)} are in use already")
        return rng.choice(choice)

    def categories(self, domain: str, *, least: int = 1, among: Collection[str] | None = None) -> list[str]:
        """Return the categories that have enough icons in a domain, sorted.

        Args:
            domain: the icons' domain.
            least: smallest number of icons.
            among: the categories to choose from; None for all.
        """
        found = (category for (d, category), icons in self._icons.items() if d == domain and len(icons) >= least)
        return sorted(category for category in found if among is None or category in among)

    def views(self, code: str) -> Sequence[Picture]:
        """Return all icon pictures of one thing, in all domains.

        Args:
            code: the icon's code points, see :class:`~fedmosaic.data.mosaic40.catalog.Icon`.
        """
        return self._views[code]
