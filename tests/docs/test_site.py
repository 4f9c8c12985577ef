"""The documentation site: built without a warning, from here alone, and readable on a phone."""

import html
import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest
from tests.docs.pages import DOCS, ROOT, pages
from tests.report.browser import BROWSER, chromium, layout

import fedmosaic
from fedmosaic.config.describe import described
from fedmosaic.config.settings import RunDefaults
from fedmosaic.registry import METHODS

LOOKED_AT = ("index", "start", "concepts", "data", "field", "reference/commands", "reference/settings")
PHONE = 360


def script(name):
    """A module of ``docs/_site``."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert "Warning" not in done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_there_and_loads_nothing_from_elsewhere(site):
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert built >= {f"{page.removesuffix('.md')}.html" for page in pages()}
    loads = r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\"\s>]+)|<link\b[^>]*\bhref=\"?([^\"\s>]+)"
    for name in built - {"404.html"}:  # which servers show at any address
        for match in re.finditer(loads, (site / name).read_text()):
            target = match[1] or match[2]
            assert not re.match(r"(https?:)?//", target), f"{name} loads {target}"
            assert target.startswith("data:") or ((site / name).parent / target.partition("?")[0]).exists(), target
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text())


@pytest.mark.slow
def test_lists_tables_and_blocks_are_seen_as_such(site):
    """What GitHub reads as a list or a table and Python-Markdown as a paragraph."""
    for path in site.rglob("*.html"):
        body = path.read_text().partition("<article")[2].partition("</article>")[0]
        for paragraph in re.findall(r"<p>(.*?)</p>", body, re.DOTALL):
            text = re.sub(r"<code>.*?</code>", "", paragraph, flags=re.DOTALL)
            assert not re.search(r":(class|meth|func|attr|mod):", text), f"{path.name}: {text[:200]}"
            assert not re.search(r"^\s*[-*] \S|^\|.*\|$|```|\]\(", text, re.MULTILINE), f"{path.name}: {text[:200]}"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_pages_that_are_opened_from_the_disk_can_be_searched_and_fit_a_phone(site, tmp_path):
    frames = "".join(
        f'<iframe id="{name}" width="{PHONE}" height="800" src="{(site / name).as_uri()}.html"></iframe>'
        for name in LOOKED_AT
    )
    measure = """<script>addEventListener("load", () => {
      const found = {};
      for (const frame of document.querySelectorAll("iframe")) {
        const page = frame.contentDocument;
        const search = page.querySelector(".md-search");
        found[frame.id] = [page.documentElement.scrollWidth, page.title, search && !search.hidden];
      }
      document.body.innerHTML = "<pre id=found></pre>";
      document.getElementById("found").textContent = JSON.stringify(found);
    });</script>"""
    (tmp_path / "all.html").write_text(f"<!doctype html><meta charset=utf-8>{frames}{measure}")
    options = ["--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=20000"]
    dumped = chromium(tmp_path, *options, (tmp_path / "all.html").as_uri())
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)[1]))
    assert set(found) == set(LOOKED_AT)
    assert all("fedmosaic" in title and search for _, title, search in found.values())
    assert {name: width for name, (width, *_) in found.items() if width > PHONE} == {}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_no_words_of_a_picture_overlap_or_leave_it(tmp_path):
    wrapped = {}
    for path in (DOCS / "pictures").glob("*.svg"):
        wrapped[path.stem] = tmp_path / f"{path.stem}.html"
        wrapped[path.stem].write_text(f"<!doctype html><title>{path.stem}</title>{path.read_text()}")
    for name, found in layout(wrapped, tmp_path, widths=(520,)).items():
        assert found["texts"] > 5, name
        assert found["problems"] == [], name


def test_pictures_are_what_their_script_draws():
    drawn = {name: draw() for name, draw in script("pictures").PICTURES.items()}
    assert drawn == {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "pictures").glob("*.svg")}
    used = (DOCS / "concepts.md").read_text()
    assert all(f"(pictures/{name}.svg)" in used for name in drawn)


def test_the_reference_has_every_name_command_option_and_setting():
    reference = script("reference")
    names = [name for group in reference.OBJECTS.values() for name in group]
    assert sorted(names) == sorted(set(fedmosaic.__all__))
    commands = reference.commands()
    verbs = re.findall(r"^## (.+)$", commands, re.MULTILINE)
    assert {"run", "data split", "deploy init", "settings show", "ask"} <= set(verbs)
    assert "`--rounds NUMBER`" in commands
    assert not re.findall(r"^\| `[^|]+` \|  \|", commands, re.MULTILINE), "a parameter without a meaning"
    settings = reference.settings()
    keys = {each.key for each in described(RunDefaults)} - {"method_settings"}
    keys |= {each.key for name in METHODS for each in described(METHODS.load(name).Settings, "method.")}
    assert keys == set(re.findall(r"^\| `([\w.]+)` \|", settings, re.MULTILINE))


@pytest.mark.parametrize(
    ("markdown", "plain", "linked"),
    [
        ("[`a.py`](../src/a.py)", "`a.py`", "[`a.py`](R/blob/HEAD/src/a.py)"),
        ("[this](../README.md)", "this (`README.md`)", "[this](R/blob/HEAD/README.md)"),
        ("[page](../docs/x.md) ![p](../a.svg)", "[page](../docs/x.md) ![p](../a.svg)", None),
        ("[page](x.md)", "[page](x.md)", None),
    ],
)
def test_links_to_files_that_are_no_pages(markdown, plain, linked):
    class Page:
        class file:  # noqa: N801
            src_uri = "y.md"

    class Config:
        repo_url = ""

    links = script("repository_links")
    assert links.on_page_markdown(markdown, page=Page, config=Config, files=None) == plain
    Config.repo_url = "R/"
    assert links.on_page_markdown(markdown, page=Page, config=Config, files=None) == (linked or plain)
