"""Text twins: a dialogue about icons in which each image is replaced by words for it.

Finding "the bird" among four words is learned within a minute. Because naming (see ``naming.py``) puts image tokens
where the words live, what is learned on the twins carries over to images.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from fedmosaic.data.mosaic40.asking import ORDINALS, marks
from fedmosaic.data.mosaic40.bank import Picture
from fedmosaic.data.mosaic40.public import Dialogue


class Twins:
    """Knows the pictures of the public bank.

    Args:
        pictures: all of them.
    """

    def __init__(self, pictures: Iterable[Picture]) -> None:
        self._pictures = {picture.key: picture for picture in pictures}

    def of(self, dialogue: Dialogue, rng: random.Random) -> Dialogue | None:
        """Return the dialogue's twin, without images, or None if it is not about icons alone."""
        pictures = [self._pictures[key] for key in dialogue.images]
        if not pictures or any(picture.kind != "icon" for picture in pictures):
            return None
        total = len(pictures)
        words = [_words(picture, rng) for picture in pictures]
        shown = words[0] if total == 1 else " ".join(f"{w} {o}" for w, o in zip(words, ORDINALS, strict=False))
        (text, answer), *rest = dialogue.turns
        return Dialogue((), ((text.replace(marks(total), shown, 1), answer), *rest))


def _words(picture: Picture, rng: random.Random) -> str:
    """Four words in any order, because an image is four tokens."""
    kind, colour, name = picture["category"], picture["colour"], picture["name"].split()
    words = [kind, kind, name[-1] if len(name) <= 2 else kind, colour or kind]
    rng.shuffle(words)
    return " ".join(words)
