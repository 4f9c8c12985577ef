"""The command line in process: exit statuses, one clear message, nothing written on refusal."""

import json
from pathlib import Path

import pytest
import tomli_w
from PIL import Image
from tests.cli.calling import call
from tests.federation.scenario import SMALL

from fedmosaic.cli.demo import demo
from fedmosaic.config import load_scenario, resolve
from fedmosaic.data.mosaic40.build import open_mosaic40
from fedmosaic.federation import RunFolder
from fedmosaic.methods.registry import make_method
from fedmosaic.models import load_base_model

pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture
def small_file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(tomli_w.dumps(SMALL.model_dump(mode="json")))
    return path


def scenario_file(path, **changes):
    client = {"id": 0, "model": "tiny-llama", "tasks": ["trend@lines"], **changes.pop("client", {})}
    path.write_text(tomli_w.dumps({"probe": "tiny-llama", "clients": [client], **changes}))
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nosuch"], ["unknown scenario 'nosuch'", "demo"]),
        (["run", "demo", "--method", "fedmosiac"], ["fedmosiac", "did you mean 'fedmosaic'"]),
        (["run", "demo", "--set", "training.stepz=3"], ["training.stepz", "steps"]),
        (["run", "demo", "--set", "method.tau=3"], ["tau", "temperature"]),
        (["run", "demo", "--set", "adapter.blocks=9"], ["blocks=9", "4 layer"]),
        (["run", "demo", "--set", "adapter.alignment=jiont"], ["alignment='jiont'", "joint", "fedmosaic align"]),
        (["compare", "demo", "--seeds", "0,x"], ["--seeds", "0,x"]),
        (["compare", "demo", "--rates", "fast"], ["--rates", "fast"]),
        (["compare", "demo", "--rates", "none.json"], ["none.json", "--rates 0.3,1,3"]),
        (["compare", "demo", "--finished", "nowhere"], ["--finished nowhere", "--out"]),
        (["compare", "demo", "--budget", "time"], ["time", "steps", "flops"]),
        (["compare", "demo", "--set", "seed=3"], ["seed=3", "--seeds"]),
        (["compare", "demo", "--set", "method=sft"], ["method=sft", "--methods"]),
        (["compare", "demo", "--methods", "sft", "--set", "method.share=1"], ["method.share", "none of sft"]),
        (["compare", "demo", "--methods", "sft:training.stepz=3"], ["training.stepz", "steps"]),
        (["align", "mosaic40", "--out", "a", "--mode", "jiont"], ["'jiont'", "joint"]),
        (["align", "mosaic40-homo", "--out", "a"], ["tiny-llama", "at least two"]),
        (["align", "mosaic40", "--out", "a", "--dtype", "bf16"], ["bf16", "bfloat16"]),
        (["run", "demo", "--engine", "cloud"], ["cloud", "in-process"]),
        (["run", "demo", "--rounds", "0"], ["rounds", "0"]),
        (["run", "demo", "--rounds", "many"], ["many"]),
        (["report", "nowhere"], ["nowhere", "not a run folder"]),
        (["evaluate", "nowhere"], ["nowhere", "not a run folder"]),
        (["tasks", "show", "odd-one-out@mars"], ["odd-one-out@mars", "odd-one-out@"]),
        (["frobnicate"], ["frobnicate"]),
    ],
)
def test_bad_usage_is_status_2_and_one_message(monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, _, error = call(monkeypatch, capsys, *arguments)
    assert status == 2
    for word in words:
        assert word in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client": {"tasks": ["trend@moon"]}}, ["trend@moon", "trend@lines"]),
        ({"client": {"model": "giant-llama"}}, ["giant-llama", "tiny-llama"]),
        ({"client": {"model": "/no/such/folder"}}, ["/no/such/folder"]),
        ({"benchmark": "published"}, ["data folder"]),
    ],
)
def test_a_scenario_that_cannot_run_is_refused_before_anything_is_written(
    monkeypatch, capsys, tmp_path, changes, words
):
    path = scenario_file(tmp_path / "s.toml", **changes)
    status, _, error = call(monkeypatch, capsys, "run", path, "--out", tmp_path / "out")
    assert status == 2
    for word in words:
        assert word in error
    assert not (tmp_path / "out").exists()


def published(tmp_path, record, image=None):
    """A data folder in the published layout with one record, used for training and testing."""
    folder = tmp_path / "data" / "dataset" / "Mini"
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        (folder / split / "dataset-0.json").write_text(json.dumps([record] * 4))
    if image is not None:
        (tmp_path / "data" / "pictures").mkdir()
        image(tmp_path / "data" / "pictures" / "one.png")
    changes = {"benchmark": "published", "data": str(tmp_path / "data"), "client": {"tasks": ["Mini-0"]}}
    return scenario_file(tmp_path / "s.toml", **changes)


def record(question="<image> is it red? Choice list:[yes, no]", answer="yes", image="pictures/one.png"):
    return {"conversations": [{"value": question}, {"value": answer}], "image": image}


@pytest.mark.parametrize(
    ("entry", "image", "words"),
    [
        (record(), None, ["one.png"]),
        (record(), lambda path: path.write_bytes(b"\x89PNG not really"), ["one.png"]),
        (
            record("<image> <image> the same? Choice list:[yes, no]"),
            lambda path: Image.new("RGB", (8, 8)).save(path),
            ["2"],
        ),
        (record(image=[]), None, ["<image>"]),
        (record(answer="maybe"), lambda path: Image.new("RGB", (8, 8)).save(path), ["maybe"]),
    ],
)
def test_bad_data_is_named_and_nothing_is_written(monkeypatch, capsys, tmp_path, entry, image, words):
    path = published(tmp_path, entry, image)
    status, _, error = call(monkeypatch, capsys, "run", path, "--out", tmp_path / "out")
    assert status == 2, error
    for word in words:
        assert word in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_task_without_samples_is_refused(monkeypatch, capsys, tmp_path):
    path = published(tmp_path, record(), lambda path: Image.new("RGB", (8, 8)).save(path))
    (tmp_path / "data" / "dataset" / "Mini" / "test" / "dataset-0.json").write_text("[]")
    status, _, error = call(monkeypatch, capsys, "run", path, "--out", tmp_path / "out")
    assert status == 2
    assert "Mini" in error
    assert not (tmp_path / "out").exists()


def test_a_published_data_folder_runs(monkeypatch, capsys, tmp_path):
    path = published(tmp_path, record(), lambda path: Image.new("RGB", (40, 30), "red").save(path))
    options = ["--rounds", 1, "--set", "training.steps=1", "--set", "adapter.blocks=2", "--quiet"]
    status, _, error = call(monkeypatch, capsys, "run", path, *options, "--out", tmp_path / "out")
    assert status == 0, error
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["others"] is None
    assert set(results["self"]["per_task"]) == {"Mini-0"}


def test_run_report_evaluate_and_adapt_on_one_folder(monkeypatch, capsys, tmp_path, small_file):
    out = tmp_path / "out"
    status, text, error = call(monkeypatch, capsys, "run", small_file, "--rounds", 1, "--reference", "--out", out)
    assert status == 0, error
    assert "Self" in text
    results = json.loads((out / "results.json").read_text())
    assert json.loads((out / "reference" / "results.json").read_text())["method"] == "sft"
    assert (out / "report.html").is_file()

    status, _, error = call(monkeypatch, capsys, "run", small_file, "--rounds", 1, "--out", out)
    assert status == 2
    assert "already holds a run" in error
    status, _, _ = call(monkeypatch, capsys, "run", "--resume", "--out", out, "--quiet")
    assert status == 0
    assert json.loads((out / "results.json").read_text()) == results

    status, text, _ = call(monkeypatch, capsys, "evaluate", out, "--generated")
    assert status == 0
    assert "verdicts agree" in text

    status, _, _ = call(monkeypatch, capsys, "report", out)
    assert status == 0


def test_unseen_tasks_and_adaptation(monkeypatch, capsys, tmp_path, small_file):
    out = tmp_path / "out"
    assert call(monkeypatch, capsys, "run", small_file, "--rounds", 1, "--out", out, "--quiet")[0] == 0
    assert call(monkeypatch, capsys, "evaluate", out, "--unseen")[0] == 0
    unseen = json.loads((out / "results.json").read_text())["unseen"]
    assert len(unseen["per_task"]) >= 6
    assert call(monkeypatch, capsys, "adapt", out, "--task", "smallest-slice@pies", "--seeds", 1)[0] == 0
    result = json.loads((out / "adapt" / "smallest-slice@pies.json").read_text())
    assert result["merged"]["200"] > result["merged"]["0"] - 0.1
    assert result["scratch"].keys() == result["merged"].keys()
    assert (out / "adapt" / "smallest-slice@pies.html").is_file()


def test_tasks_are_listed_and_shown(monkeypatch, capsys, tmp_path):
    status, text, _ = call(monkeypatch, capsys, "tasks", "list")
    assert status == 0
    assert text.count("@") >= 48
    status, _, _ = call(monkeypatch, capsys, "tasks", "show", "trend@lines", "--out", tmp_path / "sheet.png")
    assert status == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 200
    assert call(monkeypatch, capsys, "tasks", "show", "trend@lines", "--out", tmp_path / "sheet.html")[0] == 0
    assert "does the line go up or down ?" in (tmp_path / "sheet.html").read_text()
    for wrong in ("sheet.gif", "no/such/folder/sheet.png"):
        status, _, error = call(monkeypatch, capsys, "tasks", "show", "trend@lines", "--out", tmp_path / wrong)
        assert status == 2
        assert wrong in error.replace("\n", "")


def test_a_published_folder_is_listed_and_shown(monkeypatch, capsys, tmp_path):
    published(tmp_path, record(), lambda path: Image.new("RGB", (8, 8)).save(path))
    data = ["--data", tmp_path / "data"]
    status, text, _ = call(monkeypatch, capsys, "tasks", "list", *data)
    assert status == 0
    assert "Mini-0" in text
    assert call(monkeypatch, capsys, "tasks", "show", "Mini-0", *data, "--out", tmp_path / "mini.png")[0] == 0


def test_bad_records_are_counted_and_left_out_on_demand(monkeypatch, capsys, tmp_path):
    path = published(tmp_path, record(), lambda path: Image.new("RGB", (40, 30), "red").save(path))
    test = tmp_path / "data" / "dataset" / "Mini" / "test" / "dataset-0.json"
    test.write_text(json.dumps([record(answer="maybe"), record(), record(image="gone.png")]))
    options = ["--rounds", 1, "--set", "training.steps=1", "--set", "adapter.blocks=2", "--out", tmp_path / "out"]
    assert call(monkeypatch, capsys, "run", path, *options)[0] == 2
    status, text, error = call(monkeypatch, capsys, "run", path, "--skip-bad", *options)
    assert status == 0, error
    assert "left out 2 record(s)" in text
    assert "maybe" in text


@pytest.fixture
def tasks_samples(monkeypatch):
    """Alignment reads a task's own samples instead of the public ones; a list of the dtypes that it reads them in."""
    dtypes = []

    def read(names, samples, *, home, dtype="float32", **_):
        dtypes.append(dtype)
        benchmark = open_mosaic40(home)
        chosen = list(benchmark.task("trend@lines").train[:samples])
        models = {name: load_base_model(name, images=benchmark.images, home=home, dtype=dtype) for name in names}
        for model in models.values():
            model.prepare(chosen)
        return models, chosen

    monkeypatch.setattr("fedmosaic.federation.alignment.models_and_public_samples", read)
    return dtypes


def test_align_writes_bases_that_a_run_takes(monkeypatch, capsys, tmp_path, small_file, tasks_samples):
    out = tmp_path / "bases"
    status, shown, _ = call(monkeypatch, capsys, "align", small_file, "--out", out, "--mode", "a", "--samples", 10)
    assert status == 0
    assert "block.1.down_proj" in shown
    options = ["--rounds", 1, "--set", "training.steps=1", "--set", f"adapter.alignment={out}", "--quiet"]
    status, _, error = call(monkeypatch, capsys, "run", small_file, *options, "--out", tmp_path / "run")
    assert (status, error) == (0, "")
    assert json.loads((tmp_path / "run" / "clients" / "alignment" / "alignment.json").read_text())["mode"] == "a"


def test_align_can_show_which_layers_are_alike(monkeypatch, capsys, tmp_path, small_file, tasks_samples):
    options = ["--cka", "--samples", 10, "--dtype", "bfloat16"]
    status, shown, _ = call(monkeypatch, capsys, "align", small_file, "--out", tmp_path, *options)
    assert status == 0
    assert "tiny-llama and tiny-gemma" in shown
    assert tasks_samples == ["bfloat16"]
    assert (tmp_path / "cka.html").is_file()
    assert not (tmp_path / "alignment.json").exists()


def test_compare_chooses_learning_rates_and_goes_on_where_it_stood(monkeypatch, capsys, tmp_path, small_file):
    out = tmp_path / "cmp"
    command = ["compare", small_file, "--methods", "sft,fedavg", "--seeds", "0", "--rounds", "1"]
    command += ["--rates", "0.5,2", "--out", out]
    status, _, error = call(monkeypatch, capsys, *command)
    assert status == 0, error
    comparison = json.loads((out / "comparison.json").read_text())
    assert [row["method"] for row in comparison["rows"]] == ["sft", "fedavg"]
    for row in comparison["rows"]:
        found = comparison["rates"][row["method"]]
        best = max(found, key=found.get)
        assert row["settings"]["learning_rate"] == pytest.approx(float(best) * 3e-3)
        assert row["against_rivals"]["self"]["rival"] != row["method"]

    def finished():
        return {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}

    before = finished()
    assert len(before) == 6  # two factors and the comparison itself for each method
    assert call(monkeypatch, capsys, *command)[0] == 0
    assert finished() == before
    again = ["compare", small_file, "--methods", "sft", "--seeds", "0", "--rounds", "1", "--out", out]
    assert call(monkeypatch, capsys, *again, "--rates", out / "comparison.json")[0] == 0
    assert finished() == before  # the same rates: the same run
    elsewhere = ["--rates", out / "comparison.json", "--finished", out, "--out", tmp_path / "elsewhere"]
    status, shown, _ = call(monkeypatch, capsys, *again[:-2], *elsewhere)
    assert status == 0
    assert "1 of 1 runs are taken from" in shown
    events = [RunFolder(folder / "sft-seed0").events() for folder in (out, tmp_path / "elsewhere")]
    assert list(events[0]) == list(events[1])  # copied, not run again


def test_the_demo_runs_the_method_that_leads_with_settings_that_hold(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setitem(demo.__globals__, "run", lambda scenario, **given: asked.update(given, scenario=scenario))
    monkeypatch.chdir(tmp_path)
    demo(seed=3)
    settings = resolve(
        load_scenario(asked["scenario"]), method=asked["method"], overrides=asked["overrides"], seed=asked["seed"]
    )
    assert (settings.method, settings.seed, settings.scenario.reference) == ("fedmosaic-proxy", 3, "sft")
    assert make_method(settings.method, settings.method_settings).settings.proxy_steps == 2.35
    assert asked["out"].parent == Path("runs")
    assert asked["out"].name.startswith("demo-")


def test_help_says_what_arguments_are(monkeypatch, capsys):
    status, out, _ = call(monkeypatch, capsys, "ask", "--help")
    assert status == 0
    assert "Folder of a finished run." in out
