"""Several questions about the same images, as a pretraining example."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Several questions about the same images.

    Attributes:
        images: keys of an :class:`~fedmosaic.data.images.ImageSource`.
        turns: (user text, answer) pairs; the first text begins with the image marks. The loss covers all answers.
    """

    images: tuple[str, ...]
    turns: tuple[tuple[str, str], ...]
