"""Names are shown as they are: no text of a user is markup in a terminal, a page, a chart or a script."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from rich.progress import Progress
from tests.report.test_page import Page, page_of

from fedmosaic.cli.compare import _live_table, comparison_table
from fedmosaic.cli.display import RunDisplay
from fedmosaic.experiments.comparison import compare
from fedmosaic.experiments.sweep import Plan
from fedmosaic.federation import RunFolder
from fedmosaic.report import adaptation_page, comparison_page, final_table, headline, literal
from fedmosaic.report.layers import LayerPair, write_layers

NASTY = [
    "[red]x[/]", "[/]", "[/red]", "[link=http://x]y", "\\[b]", "<b>&\"'", "</script><script>alert(1)</script>",
    "{{7*7}}", "{% raw %}", "$x$", ":smile:", "a&lt;b", "`x`", "<!--", "]]>",
]  # fmt: skip


def printed(renderable, width=400):
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(renderable)
    return out.getvalue()


def words_of(html):
    page = Page(html)
    return page.text + " ".join(str(value) for _, attributes in page.tags for value in attributes.values())


@pytest.mark.parametrize("name", NASTY)
def test_names_in_the_table_and_on_the_page_are_literal(make_run, name):
    folder = make_run(clients=2, rounds=2, name=name, title=name, task_prefix=name, models=(name, f"{name} 2"), tasks=1)
    text = printed(final_table(folder))
    for wanted in (f"{name}, fedmosaic", f"{name}-0a", f"{name}-1a"):
        assert wanted in text
    assert name in headline(folder)
    page = page_of(folder)
    assert page.text.count(name) >= 5
    assert f"{name}-0a" in {cell for table in page.tables for row in table for cell in row}
    assert not any("alert" in script for script in page.scripts)
    assert json.loads(page.scripts[0])["clients"] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", NASTY)
def test_names_in_a_comparison_are_literal(make_run, tmp_path, name):
    laid = []
    for variant, gain in ((f"fedmosaic:x={name}", 0.4), (f"sft:y={name}", 0.2)):
        path = make_run(f"{variant[:3]}{name.replace('/', '_')}", method=variant[:3], gain=gain, title=name)
        laid.append(Plan(variant, 0, RunFolder(path).settings, path))
    comparison = compare(laid, budget="steps")
    text = printed(comparison_table(comparison))
    for each in laid:
        assert text.count(each.variant) == 1 + 2  # its own row, and as the other's best rival
        assert each.path.name in printed(_live_table(laid))
    html = comparison_page(comparison, laid, tmp_path / "page.html").read_text()
    page = Page(html)
    assert page.scripts == []
    assert page.text.count(f"x={name}") >= 3  # of scores, differences, speeds
    assert page.text.count(name) >= 7  # the title and those of the other variant


@pytest.mark.parametrize("name", NASTY)
def test_names_on_the_other_pages_are_literal(tmp_path, name):
    curve = {"0": 0.2, "10": 0.5}
    adapted = adaptation_page({"task": name, "merged": curve, "scratch": curve}, tmp_path / "adapt.html").read_text()
    pairs = [LayerPair(one=name, other=f"{name} 2", values=[[0.1, 0.9]], apart=0.5)]
    layers = write_layers(pairs, samples=4, path=tmp_path / "layers.html").read_text()
    for html in (adapted, layers):
        assert Page(html).scripts == []
        assert words_of(html).count(name) >= 3


@pytest.mark.parametrize("name", NASTY)
def test_a_methods_name_in_the_bars_is_literal(make_run, monkeypatch, name):
    settings = RunFolder(make_run(rounds=2)).settings.model_copy(update={"method": name})
    display = RunDisplay(settings, Console(file=io.StringIO(), force_terminal=True, width=200), beside=None)
    bars: Progress = display._bars
    assert name in printed(bars.make_tasks_table(bars.tasks))


def test_control_characters_and_halves_of_characters_are_shown_not_obeyed():
    text = literal("\x1b[31mred\x07\r\n\ud800 日本 🐱 हिन्दी")
    assert text.plain == "\\x1b[31mred\\x07\\r\\n\\ud800 日本 🐱 हिन्दी"
    text.plain.encode()
