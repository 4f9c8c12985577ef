"""What the report and the final table say of privacy."""

import dataclasses
import json

import pytest

from fedmosaic.federation.event_log import PrivacyTold
from fedmosaic.federation.results import PrivacyAccount, PrivacySpent
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.report import privacy
from fedmosaic.report.page import write_report
from fedmosaic.report.record import read_run
from fedmosaic.report.terminal import final_table

PRIVATE = PrivacyAccount(
    "sketches are differentially private",
    epsilon=9.9999,
    delta=1e-5,
    per_client={client: PrivacySpent(9.9999 - client, 1e-5, 0.5) for client in range(4)},
)
NONE = PrivacyAccount("no guarantee: unclipped noise")


def with_privacy(path, told):
    folder = RunFolder(path)
    folder.write_results(dataclasses.replace(folder.results(), privacy=told))
    return path


def test_epsilon_stands_under_the_table_and_on_the_page(make_run):
    path = with_privacy(make_run(), PRIVATE)
    line = "epsilon 10 at delta 1e-05: sketches are differentially private"
    assert line in str(final_table(path).caption)
    page = write_report(path).read_text()
    assert line in page
    assert "noise multiplier" in page
    assert privacy.rows(read_run(path))[3] == (3, "7", "1e-05", "0.5")


def test_no_guarantee_is_said_wherever_a_guarantee_would_be(make_run):
    path = with_privacy(make_run(), NONE)
    assert "no guarantee: unclipped noise" in str(final_table(path).caption)
    page = write_report(path).read_text()
    assert "No guarantee: unclipped noise" in page
    assert "epsilon" not in page.partition("</style>")[2].partition("How it was made")[0]


@pytest.mark.parametrize("told", [None, {}])
def test_a_method_that_promises_nothing_gets_no_section(make_run, told):
    path = make_run()
    results = json.loads((path / "results.json").read_text())
    (path / "results.json").write_text(json.dumps({**results, "privacy": told}))
    assert ">Privacy<" not in write_report(path).read_text()
    assert "guarantee" not in str(final_table(path).caption)


def test_an_unfinished_run_shows_its_latest_account(make_run):
    path = make_run(upto=5)
    for epsilon in (1.0, 2.5):
        RunFolder(path).log(PrivacyTold(1, **{**vars(PRIVATE), "epsilon": epsilon}))
    assert privacy.line(read_run(path)).startswith("epsilon 2.5 at delta 1e-05")
    assert json.loads((path / "events.jsonl").read_text().splitlines()[-1])["epsilon"] == 2.5
