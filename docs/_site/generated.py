"""What the site has beside the pages in ``docs``: the reference, and the list of decisions."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_HERE = Path(__file__).parent
_DECISIONS = "decisions/"


def on_config(config: Any) -> Any:
    """Name all decisions in the navigation, in their order."""
    folder = Path(config.docs_dir) / _DECISIONS
    pages = [f"{_DECISIONS}{path.name}" for path in sorted(folder.glob("*.md"))]
    config.nav = [{name: pages} if entry == _DECISIONS else each for each in config.nav for name, entry in each.items()]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages of the reference."""
    sys.path[:0] = [str(_HERE), str(_HERE.parents[1] / "src")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries among themselves
        import reference

    for name in ("commands", "settings", "python"):
        content = getattr(reference, name)()
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Undo what GitHub needs and Python-Markdown shows: the backslash before a bar in a table's code."""
    return re.sub(r"(?<=<td)[^>]*>.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)
