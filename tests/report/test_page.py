from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import statistics
from html.parser import HTMLParser

import pytest
from tests.report.scores import drawn

from fedmosaic.errors import SettingsError
from fedmosaic.federation import RunFolder
from fedmosaic.report import write_report
from fedmosaic.report.record import read_run
from fedmosaic.report.text import percent, points
from fedmosaic.report.worth import against_alone

VOID = {"meta", "input", "br", "img", "link"}


class Page(HTMLParser):
    """Tables as rows of cell texts, scripts, all tags with attributes, all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif "style" not in self._open:
            self.text += data
            if {"td", "th"} & set(self._open):
                self.tables[-1][-1][-1] += data.strip()


def page_of(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


def column(folder, name, round_):
    with (folder / "rounds.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if int(row["round"]) == round_ and row[name]]


def with_reference(make_run, **options):
    folder = make_run(**options)
    options.update(method="sft", gain=0.2, relevance=False)
    options.pop("upto", None)
    make_run("run/reference", **options)
    return folder


def test_the_final_table_is_computed_from_the_files(make_run):
    folder = with_reference(make_run, clients=4, rounds=8)
    final = page_of(folder).tables[0]
    expected = []
    for name in ("self", "others"):
        start, after = column(folder, name, 0), column(folder, name, 8)
        local = column(folder / "reference", name, 8)
        for values in (start, local, after):
            values.append(statistics.fmean(values))
        expected.append(
            [
                [f"{100 * s:.1f}", f"{100 * b:.1f}", f"{100 * a:.1f}", f"{100 * (a - s):+.1f}", f"{100 * (a - b):+.1f}"]
                for s, b, a in zip(start, local, after, strict=True)
            ]
        )
    body = final[2:]
    assert len(body) == 5
    for position, row in enumerate(body):
        numbers = [*expected[0][position], *expected[1][position]]
        assert [cell.replace("\u2212", "-") for cell in row[-10:]] == numbers
    assert body[1][:3] == ["1", "tiny-qwen2", "task-1a, task-1b"]


def test_cards_and_costs_are_the_results(make_run):
    folder = with_reference(make_run)
    results = json.loads((folder / "results.json").read_text())
    page = page_of(folder)
    assert f"{percent(results['self']['last'])} %" in page.text
    assert f"(AUC): {percent(results['others']['auc'])} %" in page.text
    costs = next(table for table in page.tables if table[1][0].startswith("Upload"))
    assert costs[1][1:] == ["120 kB", "120 kB"]
    assert costs[3][0] == "All traffic of the run"
    assert costs[3][1] == "6.40 MB"  # (120 kB + 80 kB) x 4 clients x 8 rounds
    assert costs[4][1] == "1 min 23 s"
    assert costs[7][1] == "4.80 TFLOP"
    assert "1.00 times local only" in page.text


def test_a_card_has_the_colour_of_a_gain_only_where_it_cannot_be_chance(make_run):
    folder = make_run(gain=0.3)
    make_run("run/reference", method="sft", gain=0.3, relevance=False)
    drawn(folder, lambda k, task: 0.9 if f"task-{k}" in task else 0.6, samples=40, seed=1)
    drawn(folder / "reference", lambda k, task: 0.6, samples=40, seed=2)
    found = against_alone(read_run(folder))
    assert {part: change.word for part, change in found.items()} == {"self": "higher", "others": "unclear"}
    html = write_report(folder).read_text(encoding="utf-8")
    cards = re.findall(r'<small class="(\w*)">[^<]* points over local only(.*?)</small>', html)
    assert cards == [("up", ""), ("", ": unclear")]


def test_the_task_table_is_the_results(make_run):
    folder = with_reference(make_run, clients=3)
    results = json.loads((folder / "results.json").read_text())
    local = json.loads((folder / "reference" / "results.json").read_text())
    first = RunFolder(folder).scores(when="start")

    def start(task, *, own):
        return statistics.fmean(s for k in range(3) if (f"task-{k}" in task) == own for s in first[k][task])

    table = next(table for table in page_of(folder).tables if table[0][0] == "Task")
    assert len(table) == 2 + 6
    for task, owner, *numbers in table[2:]:
        assert task.startswith(f"task-{owner}")
        expected = []
        for name in ("self", "others"):
            mine, theirs = results[name]["per_task"][task], local[name]["per_task"][task]
            expected += [
                percent(start(task, own=name == "self")),
                percent(theirs),
                percent(mine),
                points(mine - theirs),
            ]
        assert numbers == expected


def test_unseen_tasks_are_shown_where_they_were_measured(make_run):
    folder = make_run(clients=2)
    results = json.loads((folder / "results.json").read_text())
    results["unseen"] = {"last": 0.4321, "auc": 0.4, "per_client": [0.4, 0.46], "per_task": {"new-task": 0.4321}}
    results["unseen"]["per_task_ci95"] = {"new-task": [0.4, 0.47]}
    (folder / "results.json").write_text(json.dumps(results))
    page = page_of(folder)
    table = next(table for table in page.tables if table[0][0] == "Task")
    assert table[-1] == ["new-task", *["\u2013"] * 5, "43.2"]
    assert "Unseen tasks43.2 %" in re.sub(r"\s*\n\s*", "", page.text)


def test_the_slider_has_the_matrices(make_run):
    folder = make_run(clients=3, rounds=5)
    page = page_of(folder)
    data = json.loads(page.scripts[0])
    assert data["rounds"] == [1, 2, 3, 4]
    frames = data["maps"]["weights"]["frames"]
    for frame in frames:
        for i, row in enumerate(frame):
            assert row[i] is None
            assert sum(value for value in row if value is not None) == pytest.approx(100, abs=0.2)
    table = next(table for table in page.tables if table[0][0].startswith("to"))
    shown = [[f"{value:.0f}" if value is not None else "" for value in row] for row in frames[-1]]
    assert [row[1:] for row in table[1:]] == shown


NASTY = "<script>alert(1)</script>"


def test_everything_from_files_is_escaped(make_run):
    folder = with_reference(
        make_run,
        clients=2,
        rounds=3,
        name=NASTY,
        title='"><img src=x onerror=alert(2)>',
        task_prefix="</td><script>alert(3)</script>",
        models=("</script><script>alert(4)</script>", "{{ 7 * 7 }}&amp;"),
        method="' onmouseover='alert(5)",
    )
    environment = json.loads((folder / "environment.json").read_text())
    environment["<script>alert(6)</script>"] = "</pre><script>alert(7)</script>"
    (folder / "environment.json").write_text(json.dumps(environment))
    clean, page = page_of(make_run("clean", clients=2, rounds=3)), page_of(folder)
    assert len(page.scripts) == len(clean.scripts) == 2
    assert page.scripts[1] == clean.scripts[1]
    assert not any("alert" in script for script in page.scripts)
    allowed = {tag for tag, _ in clean.tags}
    assert {tag for tag, _ in page.tags} == allowed
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert NASTY in page.text
    assert "{{ 7 * 7 }}&amp;" in page.text
    assert "</td><script>alert(3)</script>-0a" in page.text


def test_nothing_is_loaded_from_anywhere(make_run):
    folder = with_reference(make_run)
    html = write_report(folder).read_text(encoding="utf-8")
    page = Page(html)
    loading = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}
    assert not [(tag, attributes) for tag, attributes in page.tags if loading & set(attributes)]
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_policy_admits_the_pages_own_script_only(make_run):
    page = page_of(make_run())
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


def test_an_unfinished_run_is_readable_and_says_so(make_run):
    folder = with_reference(make_run, rounds=8, upto=5)
    page = page_of(folder)
    assert "not finished: 5 of 8 rounds so far" in page.text
    assert "; after round 5." in page.text
    local = statistics.fmean(column(folder / "reference", "self", 5))
    assert page.tables[0][-1][2] == percent(local)
    assert "Scores of single tasks are written when the run is done" in page.text


def test_a_run_that_has_measured_nothing_is_readable(make_run):
    folder = make_run(upto=0)
    (folder / "rounds.csv").unlink()
    (folder / "events.jsonl").unlink()
    page = page_of(folder)
    assert "Nothing has been measured after training yet" in page.text
    assert "svg" not in {tag for tag, _ in page.tags}


def test_a_missing_reference_is_said(make_run):
    page = page_of(make_run(clients=2))
    assert "There is no local-only reference run beside this one" in page.text
    assert len(page.tables[0][-1]) == 1 + 3 + 3
    assert "local-only training" not in page.text


def test_a_reference_that_is_behind_is_said(make_run):
    folder = make_run(rounds=8)
    make_run("run/reference", rounds=8, upto=6, method="sft", relevance=False)
    assert "no measurement at that round yet (not finished: 6 of 8 rounds so far)" in page_of(folder).text


def test_a_single_client_has_no_others_and_no_relevance(make_run):
    page = page_of(make_run(clients=1))
    assert "Others" not in page.text
    assert "Who learns from whom" not in page.text
    assert page.scripts == []


def test_no_relevance_no_section_and_no_script(make_run):
    page = page_of(make_run(relevance=False))
    assert "Who learns from whom" not in page.text
    assert page.scripts == []


def test_a_loss_that_is_not_finite_is_named(make_run):
    folder = make_run(clients=2)
    text = (folder / "rounds.csv").read_text().splitlines()
    cells = text[-1].split(",")
    (folder / "rounds.csv").write_text("\n".join([*text[:-1], ",".join([*cells[:2], "nan", *cells[3:]])]) + "\n")
    assert "not a finite number: client 1 in round 8" in page_of(folder).text


def test_where_no_step_was_taken_there_is_no_loss_to_show(make_run):
    folder = make_run("none", clients=2, steps=0)
    assert ",0.0," not in (folder / "rounds.csv").read_text()
    assert "Training loss" not in page_of(folder).text
    assert "Training loss" in page_of(make_run("some", clients=2)).text


def test_questions_are_called_what_they_are(make_run):
    page = page_of(make_run(clients=2, split="validation")).text
    assert "every validation question" in page
    assert "test question" not in page


def test_interruptions_are_named(make_run):
    folder = make_run()
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"time": 1.0, "event": "resumed", "round": 3}\n')
    assert "taken up again after round 3" in page_of(folder).text


@pytest.mark.slow
def test_equal_files_give_an_equal_page_of_modest_size(make_run):
    folder = with_reference(make_run, clients=10, rounds=20, tasks=4)
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert len(first) < 300_000


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path):
    with pytest.raises(SettingsError, match="is not a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
