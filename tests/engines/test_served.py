import json

import pytest
import torch
from tests.federation.scenario import results_of, small

from fedmosaic.errors import RunError
from fedmosaic.events import Trained
from fedmosaic.federation import RunFolder
from fedmosaic.federation.callbacks import (
    Callback,
    Checkpoint,
    Measured,
    Relevance,
    RoundEnd,
    RoundStart,
    RunStart,
    Warned,
)
from fedmosaic.federation.results import Costs, Missing, PrivacyAccount, PrivacySpent
from fedmosaic.federation.served import MARK, Listener, Teller, tell_files

TOLD = {
    "on_round_start": RoundStart(1, 3),
    "on_trained": Trained(2, 1, 0.5, 1.25),
    "on_missing": Missing(1, 3, "training", "not there"),
    "on_measure": Measured(1, 4, (0, 1), {0: 0.25, 1: 0.5}, {}),
    "on_checkpoint": Checkpoint(1),
    "on_warning": Warned("a tracker failed"),
}


class Notebook(Callback):
    def __init__(self):
        self.heard = []

    def __getattribute__(self, name):
        if name.startswith("on_") and name != "on_run_end":
            return lambda record: self.heard.append((name, record))
        return super().__getattribute__(name)


def heard(tmp_path, lines, *, settings=None):
    settings = settings or small()
    folder, notebook = RunFolder.create(tmp_path / "here", settings), Notebook()
    text = "".join(line + "\n" for line in lines)
    Listener(settings, folder, [notebook]).hear([text[start : start + 7] for start in range(0, len(text), 7)])
    return folder, notebook.heard


def test_what_happens_there_is_heard_here(tmp_path):
    lines = ["a line of somebody else"]
    teller = Teller(lines.append)
    for moment, record in TOLD.items():
        getattr(teller, moment)(record)
    _, found = heard(tmp_path, lines)
    assert found == list(TOLD.items())


def test_a_rounds_costs_privacy_and_relevance_are_heard(tmp_path):
    weights = torch.tensor([[0.5, float("nan")], [0.25, 0.75]])
    privacy = PrivacyAccount("zero-out", 10.0, 1e-5, {0: PrivacySpent(1.0, 1e-5, 2.0)})
    told = RoundEnd(2, Costs(1.0, 2.0, 3.0, 4.0, 5, 6.0, 7.0), privacy, Relevance(1, weights))
    lines = []
    Teller(lines.append).on_round_end(told)
    Teller(lines.append).on_run_start(RunStart(small(), tmp_path, 3))
    _, [(_, end), (_, start)] = heard(tmp_path, lines)
    assert (end.round, end.costs, end.privacy) == (told.round, told.costs, told.privacy)
    assert torch.equal(end.relevance.weights.nan_to_num(9), weights.nan_to_num(9))
    assert end.relevance.similarity is None
    assert (start.round, start.folder) == (3, tmp_path / "here")


@pytest.fixture
def there(tmp_path):
    """A finished run on the server."""
    settings = small()
    folder = RunFolder.create(tmp_path / "there", settings)
    folder.write_scores({0: {"a": [0.5] * 60_000}})
    folder.write_relevance(1, torch.eye(2), None)
    (folder.path / "checkpoints" / "round-0001").mkdir(parents=True)
    (folder.path / "checkpoints" / "round-0001" / "progress.json").write_text("{}")
    folder.write_results(results_of(settings))
    return folder


def test_files_arrive_as_they_are_and_what_the_run_goes_on_from_stays(tmp_path, there):
    lines = []
    tell_files(there, lines.append)
    folder, _ = heard(tmp_path, lines)
    for name in ("results.json", "scores.json", "relevance/round-0001.npz"):
        assert (folder.path / name).read_bytes() == (there.path / name).read_bytes()
    assert not (folder.path / "checkpoints").exists()
    assert '"file": "results.json"' in lines[-1]  # a run whose log is cut off is not taken for finished


def test_a_file_that_was_changed_or_cut_is_refused(tmp_path, there):
    lines = []
    tell_files(there, lines.append)
    last = json.loads(lines[-1].removeprefix(MARK))
    for change in ({"digest": "0" * 64}, {"part": 1}, {"data": "no base64!"}, {"parts": "x"}):
        wrong = tmp_path / f"wrong-{next(iter(change))}"
        with pytest.raises(RunError):
            heard(wrong, [MARK + json.dumps({**last, **change})])
        assert not (wrong / "here" / "results.json").exists()


@pytest.mark.parametrize("name", ["../out.txt", "/etc/passwd", "a/../../b", "checkpoints/x", ".lock", "a/b/c"])
def test_a_file_elsewhere_is_refused(tmp_path, name):
    line = MARK + json.dumps({"file": name, "digest": "", "parts": 1, "part": 0, "data": ""})
    with pytest.raises(RunError, match="not expected there"):
        heard(tmp_path, [line])
    assert {path.name for path in tmp_path.iterdir()} == {"here"}


@pytest.mark.parametrize(
    "text", ["{", "[]", "[" * 10**5, '{"moment": "on_measure"}', '{"moment": "on_measure", "record": {}}', "7"]
)
def test_a_line_that_is_none_is_named(tmp_path, text):
    with pytest.raises(RunError, match="the run's log"):
        heard(tmp_path, [MARK + text])
