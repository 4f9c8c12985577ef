"""Runs from Python: what is refused, what can be given, and that the command line goes on from it."""

import dataclasses
import json
import shutil

import pytest
import torch
from PIL import Image
from tests.api.objects import capitals, colours, paints, pictures, text_model
from tests.federation.scenario import SMALL

import fedmosaic as fm
from fedmosaic.api.settings import overrides_of
from fedmosaic.io import load_tensors
from fedmosaic.registry import ENGINES
from fedmosaic.training import ClientState

pytestmark = pytest.mark.slow  # whole runs

TEXT = fm.Scenario(
    name="facts",
    clients=[
        {"id": 0, "model": "mine", "tasks": ["capitals"]},
        {"id": 1, "model": "mine", "tasks": ["colours"]},
    ],
)
SHORT = {"rounds": 2, "training": {"steps": 2, "batch_size": 2}, "adapter": {"rank": 4}}


def objects(**changes):
    return {"tasks": [capitals(), colours()], "models": {"mine": text_model()}} | changes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on given samples and a given module."""
    return fm.run(TEXT, method="fedmosaic", out=tmp_path_factory.mktemp("runs") / "facts", **SHORT, **objects())


def test_settings_are_given_by_dotted_keys_and_by_tables():
    found = overrides_of({"training.steps": 5, "evaluation": {"split": "test"}}, adapter={"rank": 4}, model=None)
    assert found == ["adapter.rank=4", "training.steps=5", 'evaluation.split="test"']
    with pytest.raises(fm.SettingsError, match="steps = None is a NoneType"):
        overrides_of({"training.steps": None})


def test_clients_answer_as_the_last_exchange_has_left_them_where_that_is_asked_for(run, tmp_path):
    again = fm.load_run(run.path, **objects())
    model = again.client(0, after_exchange=True).model
    kept = load_tensors(run.path / "clients" / "client-000" / "exchanged-0002.safetensors")
    wanted = ClientState.from_tensors(kept).slots["personal_global"]
    for name, tensor in model.adapter.slot_tensors("personal_global").items():
        assert torch.equal(tensor, wanted[name])
    trained = again.client(0).model.adapter.slot_tensors("personal_global")
    assert any(not torch.equal(tensor, wanted[name]) for name, tensor in trained.items())
    scores = again.evaluate(after_exchange=True)
    exchanged = again.results.exchanged
    tasks = {**exchanged.self_.per_task, **exchanged.others.per_task}
    own, others = exchanged.self_.per_task, exchanged.others.per_task
    assert scores.per_task == pytest.approx({task: (own[task] + others[task]) / 2 for task in tasks})
    found = again.other_answers(mix=["0.5"], after_exchange=True)
    assert found.as_run.others == exchanged.others.last
    answered = again.client(0, after_exchange=True).ask(None, "the capital of france is", ["paris", "rome"])
    assert answered in {"paris", "rome"}
    again.client(0, after_exchange=True).export(tmp_path / "lora")
    assert "after the last exchange" in (tmp_path / "lora" / "README.md").read_text()


def test_a_method_that_needs_public_samples_takes_those_of_a_task_of_ones_own(tmp_path):
    public = dataclasses.replace(capitals(), name="shown")
    scenario = TEXT.model_copy(update={"public": "shown"})
    given = objects(tasks=[capitals(), colours(), public])
    done = fm.run(scenario, method="takfl", out=tmp_path / "run", **SHORT, **given)
    assert done.results.self_.last is not None
    with pytest.raises(fm.SettingsError, match="no task is public"):
        fm.run(TEXT, method="takfl", out=tmp_path / "without", **SHORT, **objects())


def test_a_run_without_a_last_exchange_has_one_answer_only(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "run")
    results = json.loads((copy / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps(results | {"final_exchange": None}))
    with pytest.raises(fm.SettingsError, match="without a last exchange"):
        fm.load_run(copy, **objects()).client(0, after_exchange=True).ask(None, "?")
    with pytest.raises(fm.SettingsError, match="without --after-exchange"):
        fm.load_run(run.path, **objects()).other_answers(average=1, after_exchange=True)


def test_a_run_on_objects_says_so_in_its_settings(run):
    text = (run.path / "settings.toml").read_text()
    assert 'benchmark = "in-memory"' in text
    assert "given_models" in text
    assert run.done
    assert run.results.rounds == 2
    assert 0 <= run.results.self_.last <= 1
    assert set(run.scores) == {0, 1}
    assert run.report().is_file()


def test_a_finished_run_is_scored_with_other_weights(run):
    again = fm.load_run(run.path, **objects())
    found = again.other_answers(mix=["L", 0.5], average=1)
    assert found.as_run.self_ == run.results.self_.last
    assert list(found.mix) == ["L", "0.5"]
    assert found.average.self_ == pytest.approx(run.results.self_.last)
    assert list(json.loads((run.path / "answers.json").read_text())) == list(found.rows)
    with pytest.raises(fm.SettingsError, match="expected at least one of them"):
        again.other_answers()


def test_a_finished_run_is_adapted_to_more_tasks(run):
    again = fm.load_run(run.path, **objects())
    found = again.adapt_each(["capitals", "colours"], seeds=1, steps=(0, 1), training={"batch_size": 1})
    assert list(found) == ["capitals", "colours"]
    assert set(found["colours"].merged) == {0, 1}
    assert (run.path / "adapt" / "colours.html").is_file()
    with pytest.raises(fm.SettingsError, match="did you mean"):
        again.adapt("colors", seeds=1)
    with pytest.raises(fm.SettingsError, match="one of them above 0"):
        again.adapt("colours", steps=(0,))


def test_objects_that_a_folder_does_not_hold_are_asked_for(run):
    alone = fm.load_run(run.path)
    assert alone.results.method == "fedmosaic"
    assert alone.report().is_file()
    for what in (alone.evaluate, lambda: alone.client(0).ask(None, "what ?"), lambda: fm.resume(run.path, rounds=3)):
        with pytest.raises(fm.SettingsError, match="were given as objects, which its folder does not hold"):
            what()
    with pytest.raises(fm.SettingsError, match="the base model 'mine' was given as an object"):
        fm.load_run(run.path, tasks=[capitals(), colours()]).evaluate()
    again = fm.load_run(run.path, **objects()).evaluate()
    assert again.mean == pytest.approx((run.results.self_.last + run.results.others.last) / 2)


def test_other_objects_than_the_run_had_are_noticed(run):
    with pytest.raises(fm.DataError, match="changed since the run"):
        fm.load_run(run.path, **objects(models={"mine": text_model(seed=7)})).evaluate()


def test_a_client_answers_and_takes_its_model_away(run, tmp_path):
    client = run.client(1)
    question = "what color is grass ?"
    assert client.ask(None, question, options=["green", "red"]) in ("green", "red")
    assert client.ask(None, question) == client.ask(None, question)
    with pytest.raises(fm.DataError, match="is a text model"):
        client.ask(Image.new("RGB", (8, 8)), question)
    with pytest.raises(fm.SettingsError, match="the question is empty"):
        client.ask(None, "  ")
    assert (client.export(tmp_path / "lora") / "adapter_model.safetensors").is_file()
    assert (client.export(tmp_path / "whole", kind="merged") / "config.json").is_file()
    with pytest.raises(fm.SettingsError, match="expected one of lora, merged, base"):
        client.export(tmp_path / "other", kind="lorra")
    with pytest.raises(fm.SettingsError, match="has no client 9"):
        run.client(9)


def test_given_modules_stay_as_they_are(tmp_path):
    mine = text_model()
    before = {name: tensor.clone() for name, tensor in mine.module.state_dict().items()}
    fm.run(TEXT, method="sft", out=tmp_path / "run", **SHORT, **objects(models={"mine": mine}))
    after = mine.module.state_dict()
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)


def test_an_interrupted_run_goes_on_and_ends_as_if_nothing_had_happened(run, tmp_path):
    class Stop(fm.Callback):
        def on_trained(self, record):
            if record.round == 2:
                raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fm.run(TEXT, method="fedmosaic", out=out, callbacks=[Stop()], **SHORT, **objects())
    assert not fm.load_run(out).done
    with pytest.raises(fm.RunError, match="is not done"):
        fm.load_run(out).results  # noqa: B018
    heard = []

    class Hear(fm.Callback):
        def on_trained(self, record):
            heard.append((record.round, record.client))

    ended = fm.resume(out, callbacks=[Hear()], **objects())
    assert heard == [(2, 0), (2, 1)]
    assert (ended.path / "scores.json").read_bytes() == (run.path / "scores.json").read_bytes()
    assert fm.resume(out, **objects()).results.rounds == 2


def test_pictures_are_given_with_the_samples_that_name_them(tmp_path, capsys):
    scenario = fm.Scenario(name="paints", clients=[{"id": 0, "model": "tiny-llama", "tasks": ["paints"]}])
    given = {"tasks": [paints(), paints("doors")], "images": pictures()}
    run = fm.run(scenario, method="sft", rounds=1, training={"steps": 1}, out=tmp_path / "run", **given)
    assert capsys.readouterr().out == ""
    assert set(run.evaluate(unseen=True).per_task) == {"doors"}
    assert run.results.unseen.per_task.keys() == {"doors"}
    with pytest.raises(fm.DataError, match="no image was given for the key 'red'"):
        fm.run(scenario, out=tmp_path / "other", tasks=[paints()])
    assert not (tmp_path / "other").exists()


def own_method(name="own", base=fm.Method[fm.MethodSettings]):
    class Own(base):
        """Trains one LoRA alone."""

        title = "Own"
        slots = (fm.Slot("own", communicated=False),)
        answers_with = "own"

        def train(self, client, budget):
            for batch in client.batches(budget):
                client.step(batch, slots=("own",), mix="own")

        def aggregate(self, uploads, state):
            return fm.Aggregation(downloads={})

    Own.name = name
    return Own


def test_a_method_is_given_as_a_class(tmp_path):
    run = fm.run(TEXT, method=own_method(), out=tmp_path / "run", **SHORT, **objects())
    assert run.results.method == "own"
    assert "own" in fm.method_names()
    fm.register_method(own_method())  # defined again, as a notebook does
    with pytest.raises(fm.SettingsError, match="named 'sft' exists already"):
        fm.register_method(own_method("sft"))
    with pytest.raises(fm.SettingsError, match="is no method"):
        fm.run("demo", method=int)


def test_a_comparison_is_said_by_a_file_and_what_is_given_comes_before_it(tmp_path):
    path = tmp_path / "facts.toml"
    path.write_text('methods = ["sft", "fedavg"]\nseeds = [0]\nrounds = 1\n[settings]\ntraining.steps = 1\n')
    found = fm.compare(
        TEXT, sweep=path, methods=["sft"], settings={"adapter.rank": 4}, out=tmp_path / "out", **objects()
    )
    assert [row.method for row in found.rows] == ["sft"]
    (run,) = (fm.load_run(each.parent) for each in (tmp_path / "out").glob("*/settings.toml"))
    assert (run.settings.rounds, run.settings.training.steps, run.settings.adapter.rank) == (1, 1, 4)
    with pytest.raises(fm.SettingsError, match="unknown method 'sftt'"):
        fm.compare(TEXT, sweep=path, methods=["sftt"], out=tmp_path / "none", **objects())


def test_a_comparison_runs_given_methods_on_given_objects_here(tmp_path):
    given = {"out": tmp_path, "seeds": [0], "rounds": 1, "settings": {"training.steps": 1, "adapter.rank": 4}}
    comparison = fm.compare(TEXT, methods=[own_method("mine"), "sft"], **given, **objects())
    assert [row.method for row in comparison.rows] == ["mine", "sft"]
    row = comparison.row("mine")
    assert row.runs == 1
    assert row.self_last.ci95 is None
    assert row.self_against.rival == "sft"
    assert comparison.report().is_file()
    with pytest.raises(fm.SettingsError, match="has no 'sftt'; did you mean"):
        comparison.row("sftt")
    with pytest.raises(fm.SettingsError, match="cannot be given to other processes"):
        fm.compare(TEXT, methods=["sft"], jobs=2, **given, **objects())


@pytest.fixture
def elsewhere():
    """An engine that runs clients in other processes."""

    @ENGINES.register
    class Elsewhere:
        name = "elsewhere"

    yield
    ENGINES.unregister("elsewhere")


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"scenario": "demmo"}, fm.SettingsError, "did you mean"),
        ({"method": "fedmosaik"}, fm.SettingsError, "unknown method 'fedmosaik'"),
        ({"settings": {"training.stepps": 1}}, fm.SettingsError, "training.stepps"),
        ({"scenario": TEXT}, fm.FedMosaicError, "mine"),
        ({"scenario": TEXT, "tasks": [capitals()], "models": {"mine": text_model()}}, fm.SettingsError, "'colours'"),
        ({"models": {"mine": text_model()}}, fm.SettingsError, "no client uses the given model 'mine'"),
        ({"images": pictures()}, fm.SettingsError, "images were given without tasks"),
        (objects(scenario=TEXT, engine="elsewhere"), fm.SettingsError, "cannot be given objects"),
        ({"engine": "in-proces"}, fm.SettingsError, "did you mean 'in-process'"),
        ({"track": ["tensorbord"]}, fm.SettingsError, "did you mean 'tensorboard'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(tmp_path, elsewhere, given, error, said):
    with pytest.raises(error, match=said) as caught:
        fm.run(given.pop("scenario", SMALL), out=tmp_path / "run", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_scenario_is_read_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[[clients]]\nid = 0\nmodel = "./model"\ntasks = ["a"]\n')
    scenario = fm.Scenario.from_toml(path)
    assert scenario.name == "mine"
    assert scenario.clients[0].model == str(tmp_path / "model")
    with pytest.raises(fm.SettingsError, match="cannot read scenario"):
        fm.Scenario.from_toml(tmp_path / "none.toml")
