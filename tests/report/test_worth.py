"""Was it worth it: what the pages say, against scores of which the answer is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.report.scores import drawn
from tests.report.test_page import page_of

from fedmosaic.data.sample import Sample
from fedmosaic.data.stream import tasks_by_round
from fedmosaic.experiments.comparison import compare
from fedmosaic.experiments.sweep import Plan
from fedmosaic.federation import RunFolder, examples
from fedmosaic.report import comparison_page, write_report
from fedmosaic.report.exchange import nothing
from fedmosaic.report.helped import help_rows
from fedmosaic.report.matrix import matrix
from fedmosaic.report.questions import questions
from fedmosaic.report.record import read_run
from fedmosaic.report.switches import common_switches, switches
from fedmosaic.report.text import spread
from fedmosaic.report.worth import answer, change, gained


@pytest.fixture
def pair(make_run):
    """A finished run and its local-only reference, whose samples are given afterwards."""

    def make(**options):
        options = {"clients": 3, "rounds": 4, "relevance": False, **options}
        folder = make_run(**options)
        make_run("run/reference", **{**options, "method": "sft"})
        return folder

    return make


def test_a_gain_on_own_tasks_and_a_loss_on_the_others_is_partly(pair):
    folder = pair()
    drawn(folder, lambda k, task: 0.9 if f"task-{k}" in task else 0.3, samples=200, seed=1)
    drawn(folder / "reference", lambda k, task: 0.6, samples=200, seed=2)
    record = read_run(folder)
    found = answer(record)
    assert found.word == "Partly"
    assert change(record, "self", record.clients, against="local").word == "higher"
    assert change(record, "others", record.clients, against="local").word == "lower"
    assert "surely higher for clients 0, 1, 2, surely lower for nobody" in gained(record, "self")
    assert "surely higher for nobody, surely lower for clients 0, 1, 2" in gained(record, "others")
    assert "Was it worth it? Partly." in page_of(folder).text


def test_a_difference_that_sixteen_questions_cannot_tell_is_called_so(pair):
    folder = pair(clients=2, tasks=1)
    drawn(folder, lambda k, task: 0.6, samples=8, seed=1)
    drawn(folder / "reference", lambda k, task: 0.5, samples=8, seed=2)
    found = answer(read_run(folder))
    assert found.word == "Unclear"
    assert "cannot be told from chance with 16 questions" in found.text
    assert "more of them would say more" in found.text
    assert "cannot be told from chance with 16 questions" in page_of(folder).text


def test_one_client_may_gain_where_the_mean_does_not(pair):
    folder = pair()
    local = drawn(folder / "reference", lambda k, task: 0.5, samples=300, seed=2)
    mine = drawn(folder, lambda k, task: 0.5, samples=300, seed=2)
    assert mine == local
    mine[1] = {task: [1.0] * 300 for task in mine[1]}
    RunFolder(folder).write_scores(mine)
    rows = help_rows(read_run(folder))
    assert [row.self_.word for row in rows] == ["unclear", "higher", "unclear"]
    assert rows[0].self_.difference.mean == 0


def test_without_a_reference_or_an_end_nothing_is_claimed(make_run):
    alone, going = make_run("alone"), make_run("going", upto=2)
    assert answer(read_run(alone)).word == "Not known"
    assert "run with --reference" in answer(read_run(alone)).text
    assert "not finished" in answer(read_run(going)).text


def test_scores_that_an_earlier_version_did_not_keep_are_missed_not_invented(pair):
    folder = pair()
    for name in ("scores.json", "scores.start.json"):
        (folder / name).unlink()
    record = read_run(folder)
    assert answer(record).word == "Not known"
    assert "no scores of single questions" in answer(record).text
    assert "95 % interval" not in page_of(folder).text


def test_runs_that_were_asked_other_questions_are_not_paired(pair):
    folder = pair()
    drawn(folder, lambda k, task: 0.9, samples=40)
    assert answer(read_run(folder)).word == "Not known"
    assert "Was it worth it? Not known." in page_of(folder).text


@pytest.mark.parametrize(
    ("method", "models", "said"),
    [
        ("fedavg", ("tiny-llama", "tiny-qwen2", "tiny-gemma"), "no two clients have the same"),
        ("feddat", ("tiny-llama", "tiny-qwen2", "tiny-gemma"), "no two clients have the same"),
        ("fedavg", ("tiny-llama", "tiny-qwen2"), ""),
        ("fedavg", ("/models/one", "/models/copy", "/models/copy-of-copy"), ""),
        ("fedmosaic", ("tiny-llama", "tiny-qwen2", "tiny-gemma"), ""),
        ("a-strangers-own", ("tiny-llama", "tiny-qwen2", "tiny-gemma"), ""),
    ],
)
def test_an_average_over_nobody_else_says_so(pair, method, models, said):
    folder = pair(method=method, models=models)
    record = read_run(folder)
    assert said in nothing(record)
    assert bool(said) == bool(nothing(record))
    assert (answer(record).word == "No") == bool(said)


def test_the_last_download_is_compared_with_before_it(pair):
    folder = pair(exchange=0.05)
    found = change(read_run(folder), "others", (0, 1, 2), against="training")
    assert found.difference.mean == pytest.approx(0.05)
    assert found.word == "unclear"  # one question a task
    drawn(folder, lambda k, task: 0.4, samples=40)
    drawn(folder, lambda k, task: 0.8, samples=40, when="exchanged")
    assert change(read_run(folder), "others", (0, 1, 2), against="training").word == "higher"


def test_the_matrix_is_every_client_on_every_task(pair):
    folder = pair()
    mine = drawn(folder, lambda k, task: 0.7, samples=40, seed=1)
    drawn(folder / "reference", lambda k, task: 0.7, samples=40, seed=2)
    clients, rows = matrix(read_run(folder))
    assert clients == [0, 1, 2]
    for task, cells in rows:
        for client, cell in zip(clients, cells, strict=True):
            assert cell.final == pytest.approx(np.mean(mine[client][task]))
            assert cell.own == (f"task-{client}" in task)
    table = next(table for table in page_of(folder).tables if table[0] == ["Task", "0", "1", "2"])
    assert [row[0] for row in table[1:]] == [task for task, _ in rows]


def test_the_matrix_has_differences_to_local_training_only_where_it_took_as_many_rounds(make_run):
    folder = make_run(clients=2, rounds=4)
    make_run("run/reference", clients=2, rounds=4, upto=2, method="sft")
    cells = [cell for _, row in matrix(read_run(folder))[1] for cell in row]
    assert all(cell.gained == pytest.approx(cell.final - cell.start) for cell in cells)
    assert "more or less than at the start" in page_of(folder).text


def test_a_cell_without_a_score_of_local_training_has_no_difference(pair):
    folder = pair()
    local = RunFolder(folder / "reference").scores()
    del local[1]["task-0a"]
    RunFolder(folder / "reference").write_scores(local)
    cells = dict(matrix(read_run(folder))[1])["task-0a"]
    assert [cell.gained is None for cell in cells] == [False, True, False]
    assert "more or less than after local-only training" in page_of(folder).text
    (folder / "reference" / "scores.json").unlink()
    assert "more or less than at the start" in page_of(folder).text


@pytest.mark.filterwarnings("error")
def test_a_share_is_the_mean_over_all_rounds_in_which_something_was_received(pair):
    nan, record = np.nan, read_run(pair())
    early = np.array([[nan, 1.0, nan], [1.0, nan, nan], [nan, nan, nan]])
    late = np.array([[nan, 0.3, 0.7], [0.5, nan, 0.5], [0.5, 0.5, nan]])
    none = np.full((3, 3), nan)
    record = replace(record, relevance={1: {"weights": none}, 2: {"weights": early}, 3: {"weights": late}})
    taught = [[(each.client, each.weight) for each in row.teachers] for row in help_rows(record)]
    assert taught == [[(1, pytest.approx(0.65))], [(0, pytest.approx(0.75))], []]


def test_task_switches_are_those_of_the_stream(make_run):
    record = read_run(make_run(clients=2, rounds=8, tasks=3, joins={1: 3}))
    assert switches(record, 0) == [4, 7]  # 8 rounds of 3 tasks: 3, 3, 2
    plan = tasks_by_round(record.settings.scenario.client(1).tasks, "dynamic", 6)  # rounds 3 to 8
    assert switches(record, 1) == [3 + i for i in range(1, 6) if plan[i] != plan[i - 1]] == [5, 7]
    assert common_switches(record) == []
    static = record.settings.scenario.model_copy(update={"protocol": "static"})
    assert tasks_by_round("abc", "static", 2) == [("a", "b", "c")] * 2
    assert static.protocol == "static"


def test_scores_on_some_questions_have_hollow_marks(make_run):
    page = page_of(make_run(clients=1, rounds=5))
    marks = [attributes.get("class") for tag, attributes in page.tags if tag == "circle"]
    own = marks[:6]  # of the mean of Self: rounds 0 to 5
    assert own == [None, "part", "part", "part", "part", None]


def test_two_seeds_are_shown_and_get_no_interval():
    values = (0.551, 0.603)
    mean, half = 0.577, 12.706204736432095 * 0.026
    assert spread({"mean": mean, "ci95": half}, 2) == f"({100 * values[0]:.1f}, {100 * values[1]:.1f})"
    assert spread({"mean": mean, "ci95": 0.033}, 3) == "± 3.3"
    assert spread({"mean": mean, "ci95": None}, 1) == ""


def test_a_comparison_answers_first(make_run, tmp_path):
    laid = []
    for method, right in (("fedmosaic", 0.8), ("sft", 0.5), ("fedavg", 0.6)):
        for seed in (0, 1):
            path = make_run(tmp_path / f"{method}-{seed}", clients=3, method=method, seed=seed)
            drawn(path, lambda k, task, right=right: right, samples=100, seed=seed)
            laid.append(Plan(method, seed, RunFolder(path).settings, path))
    html = comparison_page(compare(laid, budget="steps"), laid, tmp_path / "page.html").read_text()
    assert "Was it worth it? <b>Yes.</b> Against training alone" in html
    assert html.index("Was it worth it?") < html.index("<h2>")
    assert "fedavg: Nothing was exchanged" in html
    assert "sft: Nothing" not in html


def test_questions_are_shown_with_the_answers_of_before_alone_and_after(pair):
    folder = pair(clients=2)
    evil = "<b onclick=x>it</b>"
    asked = [("task-0a", Sample("1", ("x",), f"<image> {evil} what ?", "cat", ("cat", "dog")))]
    for base, told in ((folder, {"start": ["dog"], "final": ["cat"]}), (folder / "reference", {"final": ["dog"]})):
        place = base / "clients" / "client-000"
        place.mkdir(parents=True)
        examples.keep(place, asked, told, load=lambda _: Image.new("RGB", (300, 200)))
    examples.keep(
        folder / "clients" / "client-000", asked, {"exchanged": ["dog"]}, load=lambda _: Image.new("RGB", (9, 9))
    )
    (kept,) = examples.read(folder / "clients" / "client-000")
    assert kept.answered == {"start": "dog", "final": "cat", "exchanged": "dog"}
    page = page_of(folder)
    assert f"{evil} what ?" in page.text
    words = " ".join(page.text.split())
    for line in ("at the start", "local only", "fedmosaic", "after the last exchange", "cat ✓"):
        assert line in words
    (image,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert image["src"].startswith("data:image/")
    bare = write_report(folder, examples=False).read_text()
    assert "what ?" not in bare
    assert "<img" not in bare


def test_answers_of_a_later_end_replace_those_of_an_earlier_one(tmp_path):
    asked = [("a", Sample("1", (), "what ?", "cat"))]
    for told in ({"final": ["dog"]}, {"exchanged": ["cow"]}, {"final": ["cat"], "start": ["pig"]}):
        examples.keep(tmp_path, asked, told, load=lambda _: Image.new("RGB", (9, 9)))
    assert examples.read(tmp_path)[0].answered == {"final": "cat", "start": "pig"}


def small(_):
    return Image.new("RGB", (9, 9))


ALIKE = [("task-0a", Sample(name, (name,), "<image> what ?", answer)) for name, answer in (("1", "cat"), ("2", "dog"))]
"""Two samples whose pictures alone tell them apart."""


def without_ids(place):
    """Make the file that an earlier version wrote."""
    path = place / "examples.json"
    table = json.loads(path.read_text())
    for each in table["examples"]:
        del each["sample"]
    path.write_text(json.dumps(table))


@pytest.mark.parametrize("earlier", [False, True])
def test_the_same_question_on_other_pictures_is_another_one(pair, earlier):
    folder = pair(clients=2)
    place, beside = (base / "clients" / "client-000" for base in (folder, folder / "reference"))
    for each, said in ((beside, "local"), (place, "mine")):
        each.mkdir(parents=True)
        examples.keep(each, ALIKE, {"final": [f"{said} 1", f"{said} 2"]}, load=small)
        if earlier:
            without_ids(each)
    examples.keep(place, ALIKE, {"exchanged": ["after 1", "after 2"]}, load=small)
    asked = questions(read_run(folder))[0]
    assert [[said for _, said, _ in each.answers] for each in asked] == [
        ["local 1", "mine 1", "after 1"],
        ["local 2", "mine 2", "after 2"],
    ]


def test_answers_are_of_the_same_sample_whatever_the_order(tmp_path):
    examples.keep(tmp_path, ALIKE, {"final": ["cat", "dog"]}, load=small)
    examples.keep(tmp_path, ALIKE[::-1], {"exchanged": ["hen", "cow"]}, load=small)
    assert [each.answered for each in examples.read(tmp_path)] == [
        {"final": "dog", "exchanged": "hen"},
        {"final": "cat", "exchanged": "cow"},
    ]


def test_long_texts_are_kept_and_compared_whole_and_shown_short(pair):
    folder = pair(clients=2)
    place = folder / "clients" / "client-000"
    place.mkdir(parents=True)
    long = "x" * 500
    examples.keep(
        place, [("task-0a", Sample("1", (), long, long))], {"start": [long], "final": [long + "y"]}, load=small
    )
    (kept,) = examples.read(place)
    assert (kept.question, kept.answer, kept.answered["start"]) == (long, long, long)
    ((asked,),) = questions(read_run(folder)).values()
    cut = "x" * 400 + " …"
    assert (asked.text, asked.right) == (cut, cut)
    assert asked.answers == [("at the start", cut, True), ("fedmosaic", cut, False)]


def test_answers_of_local_training_of_another_length_are_not_shown_beside(make_run):
    folder = make_run(clients=2, rounds=4)
    make_run("run/reference", clients=2, rounds=2, method="sft")
    for base in (folder, folder / "reference"):
        place = base / "clients" / "client-000"
        place.mkdir(parents=True)
        examples.keep(place, ALIKE, {"final": ["cat", "dog"]}, load=small)
    assert [who for who, *_ in questions(read_run(folder))[0][0].answers] == ["fedmosaic"]


def test_scores_after_an_exchange_that_was_not_made_again_do_not_count(pair):
    folder = pair(exchange=0.05)
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "final_exchange": None}))
    assert change(read_run(folder), "self", (0, 1, 2), against="training") is None


def test_examples_are_the_first_of_each_task_in_turn_and_few():
    samples = {task: [Sample(f"{task}{i}", (), f"{task}{i} ?", "a") for i in range(9)] for task in "xyz"}
    assert [sample.id for _, sample in examples.chosen(samples)] == ["x0", "y0", "z0", "x1"]
    assert examples.chosen({}) == []


def test_an_image_that_is_none_is_left_out(pair):
    folder = pair(clients=2)
    place = folder / "clients" / "client-000"
    place.mkdir(parents=True)
    table = {"task": "t", "question": "q", "answer": "a", "images": ["https://elsewhere/x.png"], "answered": {}}
    (place / "examples.json").write_text(json.dumps({"examples": [table]}))
    assert "elsewhere" not in page_of(folder).text
    assert not [tag for tag, _ in page_of(folder).tags if tag == "img"]
