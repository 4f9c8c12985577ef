"""References lead somewhere: Markdown links, and the files and anchors that docstrings and comments name."""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = sorted(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"(?<![\w/.])((?:docs|src|tests|benchmarks|examples)/[\w./-]*\w)(#[\w-]+)?")
OUTSIDE = re.compile(r"\b(METHODS|DESIGN|FEASIBILITY)\b(\.md|,? sections?\b|,? [A-Z](\.\d+)?\b)")
"""A citation of a document that is not in the repository."""


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a Markdown page's headings, by GitHub's rule."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    slugs: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(f"{slug}-{slugs[slug]}" if slugs[slug] else slug)
        slugs[slug] += 1
    return found


def problem(target: Path, anchor: str) -> str:
    """What is wrong with a reference; empty: nothing."""
    if not target.exists():
        return "no such file"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return "no such anchor"
    return ""


def prose(path: Path, sought: re.Pattern[str]) -> str:
    """The docstrings, those of attributes included, and the comments of a Python file that has what is sought."""
    source = path.read_text()
    if not sought.search(source):
        return ""  # most files, and parsing one takes much longer
    texts = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join([*texts, *(token.string for token in tokens if token.type == tokenize.COMMENT)])


def links(page: Path) -> Iterator[tuple[Path, str]]:
    for link in LINK.findall(page.read_text()):
        if not re.match(r"[a-z]+:", link):
            name, _, anchor = link.partition("#")
            yield (page.parent / name if name else page), anchor


def named(text: str) -> Iterator[tuple[Path, str]]:
    for name, anchor in NAMED.findall(text):
        yield ROOT / name, anchor.removeprefix("#")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    assert [(str(target), anchor) for target, anchor in links(page) if problem(target, anchor)] == []


def test_files_and_anchors_that_docstrings_and_comments_name_are_there():
    wrong = [
        f"{path.relative_to(ROOT)}: {target.relative_to(ROOT)}{'#' * bool(anchor)}{anchor}: {why}"
        for path in CODE
        for target, anchor in named(prose(path, NAMED))
        if (why := problem(target, anchor))
    ]
    assert wrong == []


def test_no_document_outside_the_repository_is_cited():
    texts = {path: prose(path, OUTSIDE) if path.suffix == ".py" else path.read_text() for path in [*PAGES, *CODE]}
    assert [f"{path.relative_to(ROOT)}: {cited}" for path in texts if (cited := OUTSIDE.search(texts[path]))] == []


@pytest.mark.parametrize(
    ("text", "cited"), [("(METHODS A.4)", True), ("DESIGN, section 6", True), ("METHODS = 3", False)]
)
def test_a_citation_of_an_outside_document_is_seen(text, cited):
    assert bool(OUTSIDE.search(text)) == cited


def test_anchors_follow_githubs_rule(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# What's `new`?\n```\n# code\n```\n## A [link](x.md), twice\n## A link, twice\n")
    assert anchors(page) == {"whats-new", "a-link-twice", "a-link-twice-1"}
