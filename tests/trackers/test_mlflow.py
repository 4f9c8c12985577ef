"""MLflow: what its own client finds in the database in the run folder."""

import pytest
from tests.trackers.recorder import SCORES, loss, pair, tell

from fedmosaic.federation.callbacks import RunStart
from fedmosaic.trackers import make_trackers
from fedmosaic.trackers.base import parameters

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow  # making MLflow's tables takes seconds


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A client of the database of a run that was interrupted after its first round and went on."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        for start, until in ((0, 1), (1, 2)):
            (tracker,) = make_trackers(["mlflow"])
            tell(tracker, folder, start=start, until=until, stopped=until == 1)
    assert tracker.view.endswith(f"sqlite:///{folder}/mlflow.db")
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(scope="module")
def run(logged):
    (found,) = logged.search_runs([logged.get_experiment_by_name("fedmosaic").experiment_id])
    return found


def series(logged, run, name):
    return {each.step: each.value for each in logged.get_metric_history(run.info.run_id, name)}


def test_both_parts_are_one_run_that_is_finished(run):
    assert run.info.run_name == "pair-fedmosaic-seed0"
    assert run.info.status == "FINISHED"


def test_numbers_are_those_that_were_told(logged, run):
    for client in (0, 3):
        expected = {2 * (round_ - 1) + step: loss(client, round_, step) for round_ in (1, 2) for step in (1, 2)}
        assert series(logged, run, f"loss/client-{client}") == expected
    assert series(logged, run, "scores/self") == {round_: sum(scores) / 2 for round_, scores in SCORES.items()}
    assert series(logged, run, "others/client-3") == {round_: SCORES[round_][1] / 2 for round_ in (0, 2)}
    assert series(logged, run, "cost/bytes-up") == {1: 16, 2: 32}
    assert series(logged, run, "privacy/epsilon") == {1: 4.0, 2: 8.0}


def test_settings_are_parameters(run):
    assert run.data.params["training.steps"] == "2"
    assert run.data.params["scenario.clients"] == "2"


def test_relevance_is_an_image_of_its_round(logged, run):
    images = [each.path for each in logged.list_artifacts(run.info.run_id, "images")]
    assert any("relevance" in path and "step" in path and path.endswith(".png") for path in images)


def test_settings_that_a_run_goes_on_with_are_tags(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for rounds in (2, 4, 6, 2, 2):
        settings = pair().model_copy(update={"rounds": rounds})
        (tracker,) = make_trackers(["mlflow"])
        tracker.open(RunStart(settings, tmp_path, None), parameters(settings) | {f"of-{rounds}": 1})
        tracker.close(done=True)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("fedmosaic").experiment_id])
    assert found.data.params["rounds"] == "2"
    assert {name: value for name, value in found.data.tags.items() if "resumed" in name} == {"rounds.resumed": "2"}
    assert {"of-2", "of-4", "of-6"} <= set(found.data.params)  # what an earlier version did not have
