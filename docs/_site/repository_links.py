"""Links to the repository's other files: to the repository's address where the site has one, else plain text.

Pages are read in the repository, too, where ``[text](../src/...)`` leads to the file. The site has pages alone.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]\n]*(?:\n[^\]\n]*)?)\]\(((?:\.\./)[^)\s]*)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Return a page's text with the links that leave ``docs`` rewritten."""

    def mended(match: re.Match[str]) -> str:
        text, target = match.groups()
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target))
        if path.startswith("docs/"):
            return match[0]
        if config.repo_url:
            return f"[{text}]({config.repo_url.rstrip('/')}/blob/HEAD/{path})"
        plain = text.strip("`")
        return text if plain in path else f"{text} (`{path}`)"

    return _LINK.sub(mended, markdown)
