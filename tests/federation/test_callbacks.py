"""What a run tells its callbacks, and what becomes of it when one of them fails."""

import json
from collections import Counter

import pytest
import torch
from tests.federation.scenario import small

from fedmosaic.config import RunSettings
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.callbacks import Callback, Callbacks, RunEnd, RunStart, Warned
from fedmosaic.federation.event_log import KINDS, Resumed, append, read
from fedmosaic.federation.grid import InProcessGrid

pytestmark = pytest.mark.slow  # whole runs

ROUNDS = 2


class Recorder(Callback):
    """Keeps every record."""

    def __init__(self):
        self.told = []

    def __getattribute__(self, name):
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda record: self.told.append((name.removeprefix("on_"), record))

    def of(self, moment):
        return [record for name, record in self.told if name == moment]


class Broken(Callback):
    name = "broken"
    optional = True
    calls = 0

    def on_step(self, record):
        self.calls += 1
        raise ConnectionError("no\nnetwork")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A run that a recorder has heard, beside a callback that fails."""
    settings = small(rounds=ROUNDS)
    folder = RunFolder.create(tmp_path_factory.mktemp("told") / "run", settings)
    recorder, broken = Recorder(), Broken()
    engines.run(settings, folder, callbacks=[recorder, broken])
    return folder, recorder, broken


def test_moments_come_in_the_order_of_a_run(told):
    _, recorder, _ = told
    moments = [name for name, _ in recorder.told if name not in ("step", "trained", "warning")]
    rounds = ["round_start", "round_end", "measure", "checkpoint"] * ROUNDS
    assert moments == ["run_start", "measure", *rounds, "run_end"]
    clients = [(each.client, each.round) for each in recorder.of("trained")]
    assert sorted(clients) == [(client, round_) for client in range(4) for round_ in (1, 2)]
    steps = Counter((each.client, each.round) for each in recorder.of("step"))
    assert steps == dict.fromkeys(clients, 2)


def test_records_say_what_the_files_say(told):
    folder, recorder, _ = told
    results = folder.results()
    assert recorder.of("run_end")[0].results == results
    last = recorder.of("measure")[-1]
    assert last.self_mean == pytest.approx(results.self_.last)
    assert results.others.per_client[3] is None  # it has all tasks
    assert last.others == pytest.approx(dict(enumerate(results.others.per_client[:3])))
    ends = recorder.of("round_end")
    assert ends[-1].costs.total_bytes_up == results.costs.total_bytes_up
    assert ends[0].costs.messages == 4
    assert ends[-1].privacy == results.privacy
    assert [end.relevance and end.relevance.round for end in ends] == [None, 1]
    assert torch.equal(ends[1].relevance.weights, torch.tensor(folder.relevance()[1]["weights"]))


def test_one_that_fails_is_told_once_and_not_called_again_and_the_run_goes_on(told):
    folder, recorder, broken = told
    assert broken.calls == 1
    (warning,) = recorder.of("warning")
    assert warning.text == "broken failed (ConnectionError: no network); the run goes on without it"
    assert [line.what for line in folder.events() if isinstance(line.what, Warned)] == [warning]
    assert folder.results() is not None


def test_tracking_is_no_setting(told):
    folder, _, _ = told
    assert folder.settings.digest == small(rounds=ROUNDS).digest
    assert "track" not in (folder.path / "settings.toml").read_text()
    assert isinstance(folder.settings, RunSettings)


def test_an_error_of_one_that_a_run_needs_ends_it_and_all_hear_that_it_is_over(tmp_path):
    class Needed(Callback):
        def on_round_start(self, record):
            raise OSError("disk full")

    settings, recorder = small("sft"), Recorder()
    folder = RunFolder.create(tmp_path / "run", settings)
    with pytest.raises(OSError, match="disk full"):
        engines.run(settings, folder, callbacks=[recorder, Needed()])
    assert recorder.of("run_end") == [RunEnd(None)]
    assert recorder.told[-1][0] == "run_end"


def test_a_run_that_cannot_begin_tells_nothing(tmp_path, monkeypatch):
    def broken(self, message):
        raise InterruptedError

    monkeypatch.setattr(InProcessGrid, "_deliver", broken)
    settings, recorder = small("sft"), Recorder()
    with pytest.raises(InterruptedError):
        engines.run(settings, RunFolder.create(tmp_path / "run", settings), callbacks=[recorder])
    assert recorder.told == []


def test_several_hear_in_turn_and_one_may_fail_in_between(tmp_path):
    first, last, start = Recorder(), Recorder(), RunStart(small(), tmp_path)
    everyone = Callbacks([first, Broken(), last])
    everyone.on_run_start(start)
    everyone.on_step(None)
    assert [name for name, _ in first.told] == ["run_start", "step", "warning"]
    assert [name for name, _ in last.told] == ["run_start", "warning", "step"]


def test_lines_are_read_as_they_were_written(told, tmp_path):
    folder, _, _ = told
    lines = list(folder.events())
    texts = folder.event_log.read_text().splitlines()
    assert len(lines) == len(texts)
    again = tmp_path / "events.jsonl"
    for line in lines:
        append(again, line.what)
    written = [json.loads(text) for text in again.read_text().splitlines()]
    assert [each | {"time": 0} for each in written] == [json.loads(text) | {"time": 0} for text in texts]
    assert {each["event"] for each in written} <= KINDS.keys()


def test_lines_that_are_none_are_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(["{", "[" * 10**5, f"[{'1' * 5000}]", '{"time": 2.5, "event": "resumed", "round": 3}']))
    assert [line.what for line in read(path)] == [Resumed(3)]


def test_lines_of_a_later_version_are_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"time": 1.5, "event": "eclipse"}\n[]\n{"time": 2.5, "event": "resumed", "round": 3, "why": "?"}\n'
    )
    (line,) = read(path)
    assert (line.time, line.what) == (2.5, Resumed(3))
