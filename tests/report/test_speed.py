"""Tokens a second and memory, as the events told them."""

from __future__ import annotations

import re

import pytest
from tests.methods.lab import Lab

from fedmosaic.events import Trained
from fedmosaic.experiments.comparison import compare
from fedmosaic.experiments.sweep import Plan
from fedmosaic.federation import RunFolder
from fedmosaic.federation.event_log import Memory
from fedmosaic.report import comparison_page, write_report
from fedmosaic.report.costs import most_memory, tokens_per_second
from fedmosaic.report.record import read_run
from fedmosaic.report.text import MISSING


@pytest.fixture
def told(make_run):
    folder = make_run(clients=2, rounds=2)
    log = RunFolder(folder)
    for client, tokens in ((0, 3000), (1, 1000)):
        log.log(Trained(client, 1, 0.5, 2.0, tokens))
    log.log(Trained(0, 2, 0.5, 100.0))  # of another process: not counted
    for process, device in ((2_000_000_000, None), (1_000_000_000, 5_000_000)):
        log.log(Memory(process, device))
    return folder


def test_tokens_are_set_against_the_seconds_in_which_they_were_counted(told, make_run):
    assert tokens_per_second([read_run(told)]) == 1000
    assert most_memory([read_run(told)]) == "2.00 GB, 5.00 MB on the device"
    silent = read_run(make_run("silent", clients=2, rounds=2))
    assert tokens_per_second([silent]) is None
    assert tokens_per_second([silent, read_run(told)]) == 1000


def test_both_pages_show_them(told, make_run, tmp_path):
    page = write_report(told).read_text()
    assert re.search(r"Training speed</th><td class=\"number\">1,000 tokens/s, [\d.]+ GFLOP/s</td>", page)
    assert "2.00 GB, 5.00 MB on the device" in page
    other = make_run("other", clients=2, rounds=2, method="sft")
    plans = [Plan(name, 0, RunFolder(path).settings, path) for name, path in (("fedmosaic", told), ("sft", other))]
    html = comparison_page(compare(plans, budget="steps"), plans, tmp_path / "comparison.html").read_text()
    table = html.partition("Speed and memory</h2>")[2]
    rows = re.findall(r"<th scope=\"row\" class=\"variant\">(\w+).*?</th>(.*?)</tr>", table, re.DOTALL)
    cells = {name: re.findall(r"<td class=\"number\">(.*?)</td>", row) for name, row in rows}
    assert cells == {
        "fedmosaic": ["1 min 23 s", "1,000", "2.00 GB, 5.00 MB on the device"],
        "sft": ["1 min 23 s", MISSING, MISSING],
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "fedmosaic-proxy"])
@pytest.mark.parametrize("micro_batch", [0, 3])
def test_tokens_are_those_that_were_read_without_padding(method, micro_batch):
    lab = Lab(method, micro_batch=micro_batch)
    client = lab.client()
    expected = 0
    for each in filter(None, (client, client.proxy)):
        for batch in each.batches(each.budget()):
            expected += sum(len(f"{sample.prompt} {sample.answer}".split()) + 1 for sample in batch.samples)
    assert expected > 0
    lab.train(client)
    assert client.spent.tokens == expected
