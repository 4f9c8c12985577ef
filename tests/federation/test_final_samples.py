"""``evaluation.final_samples_per_task``: start, end and last exchange on the first samples of each task."""

import json

import pytest
from tests.federation.test_last_exchange import run, settings

from fedmosaic import Run
from fedmosaic.config import resolve
from fedmosaic.errors import SettingsError
from fedmosaic.federation import examples

FEW = 7
MOMENTS = ("scores", "scores.start", "scores.exchanged")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("final")
    few = resolve(settings().scenario, method="fedavg", rounds=1, overrides=_set(FEW))
    return run(folder / "all", settings()), run(folder / "few", few)


def _set(count):
    return ["training.steps=1", f"evaluation.final_samples_per_task={count}"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.slow
def test_every_score_is_that_of_the_same_question_in_a_run_that_asks_all(runs, moment):
    every, some = (json.loads((each.path / f"{moment}.json").read_text()) for each in runs)
    assert some == {client: {task: scores[:FEW] for task, scores in tasks.items()} for client, tasks in every.items()}


@pytest.mark.slow
def test_examples_of_answers_are_kept_however_many_questions_are_scored(runs):
    every, some = (examples.read(each.path / "clients" / "client-000") for each in runs)
    assert some == every != []
    assert all({"start", "final", "exchanged"} <= each.answered.keys() for each in some)


@pytest.mark.slow
def test_evaluating_again_asks_the_questions_of_the_run(runs):
    again = Run(runs[1].path).evaluate()
    table = json.loads((runs[1].path / "scores.json").read_text())
    for client, tasks in table.items():
        for task, scores in tasks.items():
            assert again.per_client_task[int(client)][task] == pytest.approx(sum(scores) / FEW)


@pytest.mark.slow
def test_zero_is_a_run_as_it_was_before(runs):
    assert resolve(settings().scenario, method="fedavg", rounds=1, overrides=_set(0)).digest == settings().digest
    assert runs[1].settings.digest != settings().digest


def test_a_negative_number_is_refused():
    with pytest.raises(SettingsError, match="final_samples_per_task"):
        resolve(settings().scenario, method="fedavg", overrides=_set(-1))
