"""What the site has beside the pages in ``docs``: the reference, and the list of decisions."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).parent
_DECISIONS = "decisions/"


def on_config(config: Any) -> Any:
    """Name all decisions in the navigation, in their order."""
    folder = Path(config.docs_dir) / _DECISIONS
    pages = [f"{_DECISIONS}{path.name}" for path in sorted(folder.glob("*.md"))]
    config.nav = [{name: pages} if entry == _DECISIONS else each for each in config.nav for name, entry in each.items()]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the pages of the reference."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda mark: getattr(_reference(), mark[1])(), markdown)


@cache
def _reference() -> ModuleType:
    sys.path[:0] = [str(_HERE), str(_HERE.parents[1] / "src")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries among themselves
        return importlib.import_module("reference")


def on_page_content(html: str, **_: Any) -> str:
    """Undo what is for other readers: a backslash before a bar in a table (GitHub), roles in docstrings (Sphinx)."""
    html = re.sub(r":(?:class|meth|func|attr|mod|data|exc):(?=<code>)", "", html)
    html = re.sub(r"<code>~[\w.]+\.(\w+)</code>", r"<code>\1</code>", html)
    return re.sub(r"(?<=<td)[^>]*>.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)
