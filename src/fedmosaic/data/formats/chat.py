"""Messages of a chat, whose content is a text or a list of parts, as several formats have them.

Parts of OpenAI (``image_url``, ``input_image``), Anthropic (``source``) and Hugging Face (``image``, ``url``, ``path``,
``base64``, or nothing where the image is the next of the record's list) are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmosaic.data.formats.plain import Plain, Turn, image_of, listed
from fedmosaic.data.records import MARK, check_keys, either
from fedmosaic.data.sample import IMAGE_MARK
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError

_ROLE, _CONTENT = ("from", "role"), ("value", "content")
_TEXTS = frozenset({"text", "input_text", "output_text"})
_IMAGES = frozenset({"image", "image_url", "input_image"})
_OTHER_NAMES = {"developer": "system", "model": "assistant", "chatgpt": "assistant", "bot": "assistant"}
_TRAINED = frozenset({"weight", "train", "training", "loss", "loss_scale"})  # 1 or true: an answer like all others
_PAYLOADS = ("image_url", "image", "source", "url", "path", "base64")


def chat(said: object, *, before: Sequence[Turn] = ()) -> Plain:
    """Return the content of a list of messages.

    Args:
        said: the messages: objects with from and value, or role and content.
        before: turns that precede them.

    Raises:
        DataError: it is no such list, or a message has a part that cannot be used.
    """
    said = listed(said)
    if not isinstance(said, list | tuple) or not said:
        raise DataError(f"expected a list of messages, found {quoted(said)}")
    turns: list[Turn] = []
    shown: list[str | None] = []
    for number, message in enumerate(said, start=1):
        if not isinstance(message, Mapping):
            raise DataError(f"turn {number} is {quoted(message)}; expected an object with role and content")
        check_keys(f"turn {number}", message, (*_ROLE, *_CONTENT, *(key for key in _TRAINED if message.get(key) == 1)))
        role = _told(f"turn {number}", message, _ROLE)
        text, images = _flat(f"turn {number}", _told(f"turn {number}", message, _CONTENT))
        turns.append((_OTHER_NAMES.get(str(role).lower(), str(role)), text))
        shown += images
    if not any(role for role, _ in turns):
        turns = [("assistant" if place % 2 else "user", text) for place, (_, text) in enumerate(turns)]
    return marked([*before, *turns], tuple(shown), before=before)


def is_chat(value: object) -> bool:
    """Return whether a value is a list of messages, going by its first.

    Args:
        value: any.
    """
    said = listed(value)
    return isinstance(said, list) and bool(said) and isinstance(said[0], Mapping) and any(k in said[0] for k in _ROLE)


def marked(turns: Sequence[Turn], shown: tuple[str | None, ...] | None = None, *, before: Sequence[Turn] = ()) -> Plain:
    """Return turns with what their marks show.

    Args:
        turns: all of them.
        shown: of the turns that are not among ``before``; None: what the marks in their texts tell.
        before: those whose marks are still to be counted.
    """
    counted = turns if shown is None else before
    own = [None for _, text in counted for _ in MARK.finditer(text)]
    return Plain(tuple(turns), (*own, *(shown or ())))


def _told(what: str, table: Mapping[str, Any], names: Sequence[str]) -> object:
    value = either(what, table, names)
    return "" if value is None else value


def _flat(what: str, content: object) -> tuple[str, list[str | None]]:
    """Return a message's content as one text with marks, and what each mark shows."""
    parts = content if isinstance(content, list | tuple) else [content]
    texts: list[str] = []
    shown: list[str | None] = []
    for part in parts:
        if isinstance(part, str):
            text: object = part
        elif isinstance(part, Mapping) and _kind(part) in _TEXTS:
            text = _told(f"a part of {what}", part, ("text", "content", "value"))
        elif isinstance(part, Mapping) and _kind(part) in _IMAGES:
            texts.append(IMAGE_MARK)
            shown.append(_payload(part))
            continue
        else:
            kind = part.get("type") if isinstance(part, Mapping) else part
            raise DataError(
                f"{what} has a part {quoted(kind)}; expected texts and images ({', '.join(sorted(_IMAGES))})"
            )
        if not isinstance(text, str):
            raise DataError(f"{what} says {quoted(text)}; expected a text")
        texts.append(text)
        shown += [None for _ in MARK.finditer(text)]
    return "\n".join(texts), shown


def _kind(part: Mapping[str, Any]) -> str:
    return str(part.get("type") or next((key for key in ("text", *_IMAGES) if part.get(key) is not None), ""))


def _payload(part: Mapping[str, Any]) -> str | None:
    """Return the image that a part holds; None where it is the next of the record's list."""
    for key in _PAYLOADS:
        if part.get(key) is not None:
            return image_of({"base64": part[key]} if key == "base64" else part[key])
    return None
