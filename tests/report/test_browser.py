"""Every page is opened in a browser, at a desk's and a phone's width: nothing overlaps, nothing is cut off."""

from __future__ import annotations

import json

import pytest
from tests.report.browser import BROWSER, chromium, layout

from fedmosaic.data.mosaic40.build import open_mosaic40
from fedmosaic.data.sheet_page import contact_page
from fedmosaic.experiments.comparison import compare
from fedmosaic.experiments.sweep import Plan
from fedmosaic.federation import RunFolder
from fedmosaic.federation.examples import Example
from fedmosaic.federation.results import Missing
from fedmosaic.report import adaptation_page, comparison_page, write_report
from fedmosaic.report.layers import LayerPair, write_layers
from fedmosaic.report.live import LiveRun
from fedmosaic.report.trying import Limits, trying_page

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")]
WIDTHS = (1280, 390)


@pytest.fixture
def pages(make_run, tmp_path, home):
    """One of each kind, with long names and everything on them that can be."""
    gone = [Missing(5, 2, "training", "no answer within the deadline")]
    folder = make_run(clients=6, rounds=8, tasks=4, exchange=0.01, missing=gone, task_prefix="which-differs@blueprint")
    make_run("run/reference", clients=6, rounds=8, tasks=4, method="sft", gain=0.2, relevance=False,
             task_prefix="which-differs@blueprint")  # fmt: skip
    (folder / "answers.json").write_text(json.dumps({"mix L": {"self": 0.5, "others": None}}))
    laid = []
    long = "own=shared:proxy=tiny-llama-small:own_steps=0.25:proxy_steps=2.35:share=0.5:weight=1000000:restart=0.56"
    for method, settings, gain in (
        ("fedmosaic", "", 0.4),
        ("sft", "", 0.2),
        ("feddat", "", 0.3),
        ("feddat", f":{long}", 0.5),
    ):
        for seed in (0, 1):
            path = make_run(f"{method}{len(settings)}-{seed}", method=method, gain=gain, seed=seed, exchange=0.01)
            laid.append(Plan(f"{method}{settings}", seed, RunFolder(path).settings, path))
    curve = {"0": 0.2, "10": 0.5}
    many = make_run("many", clients=40, rounds=4, tasks=1, upto=3)
    live = tmp_path / "live.html"
    live.write_text(LiveRun(many).page()[0], encoding="utf-8")
    asked = tmp_path / "trying.html"
    models = {f"client-3-{name}": f"after fedmosaic and its {name} exchange" for name in ("start", "final")}
    question = Example("which-differs@blueprint", "which one differs ? " * 16, "the first")
    spec = RunFolder(many).settings.scenario.clients[0]
    asked.write_text(
        trying_page(spec, models, method="fedmosaic", limits=Limits(256, 4096), examples=[question], token=True),
        encoding="utf-8",
    )
    sheet = tmp_path / "sheet.html"
    sheet.write_text(contact_page(open_mosaic40(home), "change-type@openmoji", n=3), encoding="utf-8")
    return {
        "sheet": sheet,
        "trying": asked,
        "run": write_report(folder),
        "many": write_report(many),
        "live": live,
        "comparison": comparison_page(compare(laid, budget="steps"), laid, tmp_path / "comparison.html"),
        "adaptation": adaptation_page({"task": "new", "merged": curve, "scratch": curve}, tmp_path / "adapt.html"),
        "layers": write_layers(
            [LayerPair("tiny-llama", "tiny-qwen2", [[0.1, 0.9], [0.8, 0.2]], 0.1)], samples=4, path=tmp_path / "l.html"
        ),
    }


def test_nothing_overlaps_or_is_cut_off(pages, tmp_path):
    found = layout(pages, tmp_path, widths=WIDTHS)
    assert len(found) == len(pages) * len(WIDTHS)
    assert {name: each["problems"][:10] for name, each in found.items() if each["problems"]} == {}
    assert all(each["texts"] > 10 for each in found.values())


def test_at_a_desk_no_column_is_hidden(pages, tmp_path):
    found = layout({name: pages[name] for name in ("run", "comparison")}, tmp_path, widths=(1280,))
    assert {name: each["scrolled"] for name, each in found.items()} == {"run-1280": [], "comparison-1280": []}


def test_nothing_is_wider_than_a_printed_page(pages, tmp_path):
    paper = {}
    for name in ("run", "comparison"):
        paper[name] = tmp_path / f"{name}-print.html"
        paper[name].write_text(pages[name].read_text().replace("@media print", "@media all"), encoding="utf-8")
    found = layout(paper, tmp_path, widths=(718,))  # A4 with Chromium's margins, in CSS pixels
    assert {name: each["problems"][:10] for name, each in found.items() if each["problems"]} == {}


def test_what_does_overlap_is_found(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><body><p style='margin-bottom:-2em'>one text</p><p>another text</p>"
        "<p style='width:2000px'>wide</p>"
        "<svg width=100 height=20><text x=80 y=15>cut off here</text></svg>"
    )
    problems = layout({"bad": page}, tmp_path, widths=(600,))["bad-600"]["problems"]
    assert [each.partition(":")[0] for each in problems] == ["wider than the window", "cut off in a chart", "overlap"]


def test_the_run_page_prints(pages, tmp_path):
    printed = tmp_path / "printed.pdf"
    chromium(tmp_path, f"--print-to-pdf={printed}", "--no-pdf-header-footer", pages["run"].as_uri())
    data = printed.read_bytes()
    assert data.startswith(b"%PDF-")
    assert 2 <= data.count(b"/Type /Page\n") + data.count(b"/Type/Page\n") <= 20
