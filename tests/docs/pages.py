"""The pages of the documentation and their fenced blocks.

A block is run by ``test_pages.py``, in the order of its page, unless the page has a test of its own or a comment stands
above the block:

    <!-- checked: 20 hours -->      not run for this reason; its options are read by the parsers of what it calls
    <!-- file: two.toml -->         what the reader has in that file; as a line that says `two.toml`, which readers see
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

TESTED_BY = {
    "add-a-method.md": "tests/methods/test_add_a_method.py",
    "deploy.md": "tests/deployment/test_guide.py",
    "extend.md": "tests/test_extend.py",
    "serve.md": "tests/serving/test_real.py",
}
"""Pages whose bash blocks and files are used by a test of their own."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n`]*\n(?P<text>.*?)^(?P=indent)```", re.M | re.S)
_ABOVE = re.compile(r"(?:<!-- (?P<mark>checked|file): (?P<what>[^>]+?) -->|^`(?P<file>[\w./-]+)`)\s*\Z", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the page's path below ``docs``.
        line: of its fence.
        language: as its fence says.
        text: what is in it.
        checked: why it is not run; empty: it is.
        file: the file that it is the content of; empty: none.
    """

    page: str
    line: int
    language: str
    text: str
    checked: str
    file: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """The paths of all pages below ``docs``."""
    return sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        above = _ABOVE.search(text[: found.start()])
        mark, what = (above["mark"], above["what"]) if above else (None, "")
        yield Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            checked=what if mark == "checked" else "",
            file=what if mark == "file" else (above["file"] or "") if above else "",
        )
