"""Clients that answer with the mean of their last weights: training does not notice, answers and exports do."""

import pytest
import torch
from tests.federation.scenario import SMALL

from fedmosaic.config import resolve
from fedmosaic.config.settings import varied
from fedmosaic.experiments.rescoring import self_and_others
from fedmosaic.federation import Assets, ClientRuntime, RunFolder, engines
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.event_log import Headline
from fedmosaic.federation.final_model import final_model
from fedmosaic.io import load_tensors
from fedmosaic.training import ClientState, averaged

pytestmark = pytest.mark.slow  # whole runs

ROUNDS = 4
CLIENTS = SMALL.clients[:2]
PAIR = SMALL.model_copy(update={"clients": CLIENTS})


@pytest.fixture(scope="module", params=["fedmosaic", "ditto"])
def runs(request, tmp_path_factory):
    """The same run with and without averaging over three rounds."""
    folders = {}
    for window in (1, 3):
        settings = resolve(PAIR, method=request.param, rounds=ROUNDS, overrides=[f"training.averaged_rounds={window}"])
        folders[window] = RunFolder.create(tmp_path_factory.mktemp("averaged") / "run", settings)
        engines.run(settings, folders[window])
    return folders


def states(folder, client):
    paths = sorted((folder.client_folder / f"client-{client:03d}").glob("round-*.safetensors"))
    return {int(path.stem.removeprefix("round-")): load_tensors(path) for path in paths}


def test_training_takes_the_same_course(runs):
    for client in range(len(CLIENTS)):
        plain, averaging = (states(runs[window], client) for window in (1, 3))
        # one more than answers need, to go back by a round
        assert (sorted(plain), sorted(averaging)) == ([2, 3, 4], [1, 2, 3, 4])
        for round_, state in plain.items():
            assert state.keys() == averaging[round_].keys()
            assert all(torch.equal(tensor, averaging[round_][name]) for name, tensor in state.items())
    measured = [[line.what for line in runs[window].events() if isinstance(line.what, Headline)] for window in (1, 3)]
    first = [[(line.self_, line.others) for line in each if line.round <= 1] for each in measured]
    assert first[0] == first[1]


def test_the_client_answers_with_the_mean_of_its_weights_and_this_is_what_it_takes_away(runs):
    runtime = ClientRuntime(Assets(runs[3].settings), runs[3].client_folder)
    for client in range(len(CLIENTS)):
        kept = states(runs[3], client)
        now = ClientNode(runtime, client).client_after(ROUNDS).state().tensors()
        taken = {f"gate|{name}": tensor for name, tensor in final_model(runtime, client).adapter.gate_tensors().items()}
        moved = 0
        for name, tensor in now.items():
            last, by_hand = kept[4][name], (kept[2][name] + kept[3][name] + kept[4][name]) / 3
            weight = name.startswith(("slot.", "gate|"))
            torch.testing.assert_close(tensor, by_hand if weight else last)
            moved += weight and not torch.equal(tensor, last)
            assert name not in taken or torch.equal(tensor, taken[name])
        assert moved > 0


def test_scoring_again_gives_the_runs_own_results_and_other_ones_with_another_window(runs):
    again = ClientRuntime(Assets(runs[1].settings), runs[1].client_folder)
    last = [part.last for part in (runs[1].results().self_, runs[1].results().others)]
    assert self_and_others(again, rounds=ROUNDS) == pytest.approx(last, abs=1e-4)
    other = varied(runs[1].settings, ["training.averaged_rounds=2"])  # as many as it has kept
    again = ClientRuntime(Assets(other), runs[1].client_folder)
    now = ClientNode(again, 0).client_after(ROUNDS).state().tensors()
    assert any(not torch.equal(now[name], tensor) for name, tensor in states(runs[1], 0)[ROUNDS].items())


def test_a_client_that_has_trained_less_often_averages_what_there_is():
    one, two = (
        ClientState({"local": {"b": torch.tensor([x])}}, {}, moments={"b": torch.tensor([x])}) for x in (1.0, 4.0)
    )
    assert averaged([one]) == one
    assert averaged([one, two]).tensors() == {"slot.local|b": torch.tensor([2.5]), "moment|b": torch.tensor([4.0])}


def test_half_precision_is_averaged_in_more_and_stays_what_it_is():
    values = [torch.tensor([256.0], dtype=torch.bfloat16)] * 2 + [torch.tensor([262.0], dtype=torch.bfloat16)]
    mean = averaged([ClientState({}, {"b": value}) for value in values]).gate["b"]
    assert mean.dtype == torch.bfloat16
    assert mean.item() == 258.0
