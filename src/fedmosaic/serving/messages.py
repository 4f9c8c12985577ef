"""The messages of a request as one question with its pictures, as a record of data with the same messages is read."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from PIL import Image

from fedmosaic.data.content import quoted
from fedmosaic.data.embedded import embedded_bytes
from fedmosaic.data.formats.chat import chat
from fedmosaic.data.formats.plain import with_images
from fedmosaic.data.pictures import read_picture
from fedmosaic.data.records import answers, parse_conversation
from fedmosaic.errors import DataError
from fedmosaic.serving.refusals import Refusal

MOST_PICTURES = 16
MOST_CHARACTERS = 1_000_000
MOST_PIXELS = 2**26  # 8,192 x 8,192: a camera's photo; more takes a gigabyte to open
_TO_COME = {"role": "assistant", "content": "?"}


class Asked(NamedTuple):
    """What the last message asks.

    Attributes:
        prompt: all that was said, earlier messages and the system message first, with a mark for each picture.
        pictures: data URIs.
    """

    prompt: str
    pictures: tuple[str, ...]


def asked(messages: Sequence[Mapping[str, Any]]) -> Asked:
    """Return the question of a conversation that ends with one.

    Args:
        messages: with role and content, a text or parts of text and images.

    Raises:
        Refusal: a picture is no data URI: nothing is fetched, and no file is read.
        DataError: a message cannot be used, or there is no question at the end.
    """
    if messages and messages[-1].get("role") != "user":
        raise DataError(
            f"the last message is by {quoted(str(messages[-1].get('role')))}; expected a question by 'user'"
        )
    turns, images = with_images(chat([*messages, _TO_COME]), [])
    for number, image in enumerate(images, start=1):
        if not image.lstrip()[:5].lower() == "data:":
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                f"image {number} is {quoted(image)}; nothing is fetched here: send it as data:image/png;base64,...",
                param="messages",
                code="invalid_image_url",
            )
    if len(images) > MOST_PICTURES:
        raise DataError(f"{len(images)} images; expected at most {MOST_PICTURES}")
    if (length := sum(len(text) for _, text in turns[:-1])) > MOST_CHARACTERS:
        raise DataError(f"the messages have {length:,} characters of text; expected at most {MOST_CHARACTERS:,}")
    said = [{"from": role, "value": text} for role, text in turns]
    conversation = parse_conversation({"conversations": said, "images": images})
    *_, last = answers(conversation, is_open=True)
    return Asked(last.prompt, conversation.images)


def picture(uri: str, number: int) -> Image.Image:
    """Return a picture as RGB.

    Args:
        uri: holds it.
        number: of the request's, from 1, for errors.

    Raises:
        DataError: it is none that can be opened, or too large.
    """
    content, name = embedded_bytes(uri), f"image {number}"
    try:
        with Image.open(io.BytesIO(content)) as opened:  # the header only
            size = opened.size
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        size = (0, 0)  # read_picture says what is wrong
    if size[0] * size[1] > MOST_PIXELS:
        raise DataError(f"{name} has {size[0]} x {size[1]} pixels; expected at most {MOST_PIXELS:,}: scale it down")
    return read_picture(io.BytesIO(content), name)
