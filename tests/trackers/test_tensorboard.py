"""TensorBoard: what its own reader finds in the run folder."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.trackers.recorder import SCORES, loss, pair, tell

from fedmosaic.events import Step
from fedmosaic.federation.callbacks import RoundEnd, RunEnd, RunStart
from fedmosaic.federation.results import Costs
from fedmosaic.trackers import make_trackers

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    found = event_accumulator.EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    return found.Reload()


def series(found, name):
    return {event.step: event.value for event in found.Scalars(name)}


@pytest.fixture
def logged(tmp_path):
    (tracker,) = make_trackers(["tensorboard"])
    tell(tracker, tmp_path)
    return read(tmp_path)


def test_losses_are_over_each_clients_own_steps(logged):
    for client in (0, 3):
        expected = {2 * (round_ - 1) + step: loss(client, round_, step) for round_ in (1, 2) for step in (1, 2)}
        assert series(logged, f"loss/client-{client}") == expected


def test_a_step_without_a_loss_and_those_of_a_proxy_model_are_left_out(tmp_path):
    (tracker,) = make_trackers(["tensorboard"])
    tracker.on_run_start(RunStart(pair(), tmp_path, None))
    for step, loss_ in ((1, None), (2, 0.5)):
        tracker.on_step(Step(0, 1, step, 2, loss_))
        tracker.on_step(Step(0, 1, step, 2, 0.1, proxy=True))
    tracker.on_run_end(RunEnd(None))
    assert series(read(tmp_path), "loss/client-0") == {2: 0.5}


def test_scores_are_over_rounds_and_others_only_where_they_were_measured(logged):
    assert series(logged, "scores/self") == {round_: sum(scores) / 2 for round_, scores in SCORES.items()}
    assert series(logged, "scores/others") == {round_: sum(SCORES[round_]) / 4 for round_ in (0, 2)}
    assert series(logged, "self/client-3") == {round_: scores[1] for round_, scores in SCORES.items()}
    assert series(logged, "others/client-0") == {round_: SCORES[round_][0] / 2 for round_ in (0, 2)}


def test_costs_and_epsilon(logged):
    assert series(logged, "cost/bytes-up") == {1: 16, 2: 32}
    assert series(logged, "cost/bytes-down") == {1: 8, 2: 16}
    assert series(logged, "cost/flops") == {1: 2e9, 2: 4e9}
    assert series(logged, "privacy/epsilon") == series(logged, "epsilon/client-0") == {1: 4.0, 2: 8.0}


def test_bytes_that_were_not_counted_are_left_out(tmp_path):
    (tracker,) = make_trackers(["tensorboard"])
    tracker.on_run_start(RunStart(pair(), tmp_path, None))
    tracker.on_round_end(RoundEnd(1, Costs(10.0, 1.0, 1.0, 2e9, None, 8.0, 4.0)))
    tracker.on_round_end(RoundEnd(2, Costs(10.0, 1.0, 1.0, 4e9, 2, 8.0, 4.0, 16, 0)))
    tracker.on_run_end(RunEnd(None))
    found = read(tmp_path)
    assert (series(found, "cost/bytes-up"), series(found, "cost/bytes-down")) == ({2: 16}, {2: 0})
    assert series(found, "cost/flops") == {1: 2e9, 2: 4e9}


def test_relevance_is_an_image_of_the_matrix(logged):
    (event,) = logged.Images("relevance")
    assert event.step == 1
    pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    assert pixels.shape == (256, 256, 3)
    corners = [tuple(int(each) for each in pixels[row, column]) for row in (0, -1) for column in (0, -1)]
    half, same, unknown, most = corners
    assert half == same == (143, 166, 206)  # half way from white to blue
    assert unknown == (200, 200, 200)
    assert most == (31, 78, 156)


def test_settings_are_hyper_parameters(logged):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = logged.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    told = HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["training.steps"].number_value == 2
    assert told["method"].string_value == "fedmosaic"
    assert told["scenario.clients"].number_value == 2


def test_a_run_that_goes_on_continues_its_curves(tmp_path):
    for start, until in ((0, 1), (1, 2)):
        (tracker,) = make_trackers(["tensorboard"])
        tell(tracker, tmp_path, start=start, until=until, stopped=until == 1)
    found = read(tmp_path)
    assert sorted(series(found, "loss/client-3")) == [1, 2, 3, 4]
    assert sorted(series(found, "scores/self")) == [0, 1, 2]
