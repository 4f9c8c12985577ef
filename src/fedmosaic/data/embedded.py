"""Images embedded in a text as data URIs."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote_to_bytes

from fedmosaic.data.content import quoted
from fedmosaic.errors import DataError

_DATA_URI = re.compile(r"\s*data:(?P<type>[^;,\s]*)(?P<more>(?:;[^;,]*)*),(?P<data>.*)", re.IGNORECASE | re.DOTALL)
_FROM_URLS = bytes.maketrans(b"-_", b"+/")


def embedded_bytes(uri: str) -> bytes:
    """Return the bytes that a data URI (RFC 2397) holds.

    Common deviations are accepted: white space, missing padding, the URL-safe alphabet, no media type.

    Args:
        uri: ``data:image/png;base64,...``.

    Raises:
        DataError: it is none, names another medium than an image, or its data cannot be decoded.
    """
    match = _DATA_URI.fullmatch(uri)
    if match is None:
        raise DataError(f"image {quoted(uri)} is no data URI; expected data:image/png;base64,...")
    kind = match["type"].lower()
    if kind and not kind.startswith("image/"):
        raise DataError(f"image {quoted(uri)} holds {kind!r}; expected an image, such as data:image/png;base64,...")
    try:
        content = unquote_to_bytes(match["data"])
        if ";base64" in match["more"].lower():
            letters = b"".join(content.split()).translate(_FROM_URLS).rstrip(b"=")
            content = base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except ValueError as error:
        raise DataError(f"image {quoted(uri)} cannot be decoded ({error}); the text may be cut off") from None
    if not content:
        raise DataError(f"image {quoted(uri)} holds no data; replace it or remove its record")
    return content
