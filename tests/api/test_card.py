"""Model cards: read by the hub's own library, resolvable by a stranger, silent about the machine and the data."""

import dataclasses

import pytest
from huggingface_hub import ModelCard
from tests.federation.scenario import results_of, small

from fedmosaic.api.card import BaseName, Card, base_name, scores_of
from fedmosaic.config import Scenario, resolve
from fedmosaic.errors import SettingsError
from fedmosaic.federation import RunFolder
from fedmosaic.federation.results import ExchangedScores, PrivacyAccount, PrivacySpent
from fedmosaic.version import __version__

TASKS = ("ward | a", "x-rays: [b] # <b>", "unmeasured")
SCORES = [(TASKS[0], [1.0, 0.0, 1.0, 1.0] * 10), (TASKS[1], [0.5] * 8)]


def card(**changes) -> Card:
    scenario = Scenario(
        name="hospital",
        benchmark="files",
        data="/secret/place/patients.jsonl",
        probe="tiny-llama",
        clients=[
            {"id": 0, "model": "/home/me/models/my-vlm", "tasks": list(TASKS), "start": "/home/me/lora"},
            {"id": 1, "model": "tiny-llama", "tasks": ["other"]},
        ],
    )
    settings = resolve(scenario, method="fedmosaic")
    spec = settings.scenario.client(0)
    privacy = PrivacyAccount("sketches only", 9.0, 1e-5, {0: PrivacySpent(9.0, 1e-5, 1.0)})
    values = {
        "spec": spec,
        "form": "lora",
        "bases": [base_name(spec.model)],
        "fingerprint": "llama-1x2-abc",
        "usage": "usage",
        "method": "FedMosaic",
        "state": "3 rounds",
        "settings": settings,
        "scores": SCORES,
        "privacy": privacy,
    }
    return Card(**{**values, **changes})


def test_the_hub_reads_the_card():
    data = ModelCard(card(bases=[BaseName("owner/model", on_hub=True)]).text()).data
    assert (data.library_name, data.base_model, data.metrics) == ("peft", ["owner/model"], ["accuracy", "f1"])
    assert {"fedmosaic", "lora"} <= set(data.tags)
    found = {each.dataset_name: each.metric_value for each in data.eval_results}
    assert found == {TASKS[0]: 0.75, TASKS[1]: 0.5}


def test_a_base_that_is_not_on_the_hub_is_no_link_there():
    assert ModelCard(card().text()).data.base_model is None
    assert "`my-vlm`; fingerprint of the client's: `llama-1x2-abc`" in card().text()


def test_scores_stand_with_intervals_and_names_are_no_markup():
    lines = card().text().splitlines()
    first = next(line for line in lines if "ward" in line and line.startswith("| "))
    _, task, score, interval, count, _ = first.replace("\\|", "/").split("|")
    low, high = map(float, interval.split("to"))
    assert (task.strip(), float(score), int(count)) == ("ward / a", 0.75, 40)
    assert 0.55 < low < 0.75 < high < 0.95
    assert "| x-rays: \\[b\\] \\# \\<b\\> | 0.500 | 0.500 to 0.500 | 8 |" in lines


def test_privacy_is_told_and_limited():
    assert "sketches only. Epsilon 9 at delta 1e-05." in card().text()
    assert "no promise about this model" in card().text()
    assert "promises nothing" in card(privacy=None).text()


def test_no_path_of_this_machine_is_told():
    text = card(scores=[]).text()
    assert "/secret" not in text and "/home" not in text and "patients" not in text
    assert "no scores of this state" in text


def test_words_around_a_question_are_told_to_the_letter():
    settings = card().settings
    words = {"system": "Be brief.", "template": "### Ask:\n{question}\n```\n"}
    text = card(settings=settings.model_copy(update={"scenario": settings.scenario.model_copy(update=words)})).text()
    code = text.partition("## Prompts")[2].partition("```python\n")[2].partition("\n```\n")[0]
    found = {}
    exec(code, found)
    assert {name: found[name] for name in words} == words
    assert "## Prompts" not in card().text()


def test_samples_are_called_what_they_are():
    settings = card().settings
    how = settings.evaluation.model_copy(update={"split": "validation"})
    text = card(settings=settings.model_copy(update={"evaluation": how})).text()
    assert "| validation samples |" in text
    assert "on validation samples" in text
    assert "test samples" not in text
    assert "| test samples |" in card().text()


@pytest.mark.parametrize(
    ("exchanged", "expected"),
    [(ExchangedScores(changed=True), 0.75), (ExchangedScores(changed=False), 0.25), (None, 0.25)],
)
def test_scores_are_of_the_state_that_is_exported(tmp_path, exchanged, expected):
    settings = small()
    spec = settings.scenario.clients[0]
    folder = RunFolder.create(tmp_path / "run", settings)
    folder.write_scores({0: {spec.tasks[0]: [0.25], "other": [1.0]}})
    folder.write_scores({0: {spec.tasks[0]: [0.75]}}, when="exchanged")
    folder.write_results(dataclasses.replace(results_of(settings), exchanged=exchanged))
    assert scores_of(folder, spec, after_exchange=True) == [(spec.tasks[0], [expected])]
    assert scores_of(folder, spec, after_exchange=False) == [(spec.tasks[0], [0.25])]


@pytest.mark.parametrize(
    ("model", "given", "name", "on_hub"),
    [
        ("tiny-llama", None, f"tiny-llama (fedmosaic {__version__})", False),
        ("/home/me/my-vlm", None, "my-vlm", False),
        ("/home/me/my-vlm/", "owner/my-vlm", "owner/my-vlm", True),
        ("/x/hub/models--llava-hf--llava-1.5-7b-hf/snapshots/abc", None, "llava-hf/llava-1.5-7b-hf", True),
        ("C:\\models\\mine", None, "mine", False),
    ],
)
def test_base_models_have_names_that_mean_something_elsewhere(model, given, name, on_hub):
    assert base_name(model, given) == BaseName(name, on_hub)


@pytest.mark.parametrize("given", ["/home/me/model", "a/b/c", "../x", ""])
def test_a_path_is_no_name_on_the_hub(given):
    with pytest.raises(SettingsError, match="expected a name on the hub"):
        base_name("tiny-llama", given)
