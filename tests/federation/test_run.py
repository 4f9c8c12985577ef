"""Whole runs on the real models: reproducible, resumable, and nothing private on the wire."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Context, RecordDict
from tests.federation.scenario import SMALL, small

from fedmosaic.config import resolve
from fedmosaic.errors import RunError, SettingsError, WireError
from fedmosaic.federation import RunFolder, client_app, engines, server_app, wire
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.io import load_tensors

pytestmark = pytest.mark.slow  # whole runs

METHODS = ["fedmosaic", "fedavg", "sft"]
PAIR = SMALL.model_copy(update={"clients": SMALL.clients[:2]})
TIMES = ("seconds", "train_seconds", "evaluation_seconds")


def run(path: Path, settings) -> dict:
    folder = RunFolder.create(path, settings)
    engines.run(settings, folder)
    return folder.results().as_json()


def without_times(results: dict) -> str:
    return json.dumps({key: value for key, value in results.items() if key not in TIMES})


def recorded(patch):
    """Record every message's content, both ways."""
    seen = []
    deliver = InProcessGrid._deliver

    def recording(self, message):
        reply = deliver(self, message)
        seen.append((message.metadata.message_type, message.content, reply.result().content))
        return reply

    patch.setattr(InProcessGrid, "_deliver", recording)
    return seen


@pytest.fixture(scope="module")
def messages():
    """Method -> what went over the wire in its finished run: kind, message and reply."""
    return {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, messages):
    """One finished run per method."""
    found = {}
    for method in METHODS:
        path = tmp_path_factory.mktemp("run") / method
        with pytest.MonkeyPatch.context() as patch:
            messages[method] = recorded(patch)
            found[method] = path, run(path, small(method))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_the_run_folder_has_what_the_contract_names(finished, method):
    path, results = finished[method]
    for name in ("settings.toml", "environment.json", "events.jsonl", "rounds.csv", "results.json"):
        assert (path / name).is_file()
    assert (path / "relevance").is_dir() == (method == "fedmosaic")
    keys = "scenario method engine seed rounds protocol seconds train_seconds flops bytes_up bytes_down"
    assert {*keys.split(), "self", "others", "unseen", "initial"} <= set(results)
    for part in ("self", "others"):
        assert 0 <= results[part]["last"] <= 1
        assert len(results[part]["per_client"]) == 4
    assert results["flops"] > 0
    assert (results["bytes_up"] > 0) == (method != "sft")


def test_what_the_sketches_tell_is_in_the_results_and_the_events(finished):
    path, results = finished["fedmosaic"]
    told = results["privacy"]
    assert sorted(told["per_client"]) == ["0", "1", "2", "3"]
    assert 9.99 < told["epsilon"] <= 10
    assert told["delta"] == 1e-5
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    spent = [event["epsilon"] for event in events if event["event"] == "privacy"]
    assert len(spent) == 3
    assert spent == sorted(spent)
    assert spent[-1] == told["epsilon"]
    assert finished["sft"][1]["privacy"] is None


def test_the_same_seed_gives_the_same_results_and_another_seed_others(finished, tmp_path):
    path, results = finished["fedmosaic"]
    again = run(tmp_path / "again", small())
    assert without_times(again) == without_times(results)
    assert (tmp_path / "again" / "rounds.csv").read_bytes() == (path / "rounds.csv").read_bytes()
    other = run(tmp_path / "other", small("sft", seed=1))
    assert without_times(other) != without_times(finished["sft"][1])


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("call", [5, 9, 14, 19])
def test_a_run_stopped_anywhere_goes_on_to_the_same_results(finished, tmp_path, monkeypatch, call):
    path, results = finished["fedmosaic"]
    count = 0
    deliver = InProcessGrid._deliver

    def failing(self, message):
        nonlocal count
        count += 1
        if count == call:
            raise StoppedError
        return deliver(self, message)

    monkeypatch.setattr(InProcessGrid, "_deliver", failing)
    settings = small()
    folder = RunFolder.create(tmp_path / "run", settings)
    with pytest.raises(StoppedError):
        engines.run(settings, folder)
    assert folder.results() is None
    monkeypatch.setattr(InProcessGrid, "_deliver", deliver)
    engines.run(settings, RunFolder.resume(tmp_path / "run", settings))
    assert without_times(folder.results().as_json()) == without_times(results)
    for client in range(4):
        name = f"clients/client-{client:03d}/round-0003.safetensors"
        ours, theirs = load_tensors(tmp_path / "run" / name), load_tensors(path / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def announced(seen, upload):
    """The shapes that the sender of an upload announced in its hello: the upload names them by their hash alone."""
    hellos = {reply["meta"]["client"]: reply["meta"] for kind, _, reply in seen if kind == "query.hello"}
    shapes = json.loads(hellos[upload["meta"]["client"]]["upload"])
    assert dict(upload["schema"]) == {"hash": wire.schema_hash(shapes)}
    return {name: tuple(shape) for name, shape in shapes.items()}


def test_only_the_travelling_slot_and_the_sketch_are_uploaded(finished, messages):
    uploads = [reply for kind, _, reply in messages["fedmosaic"] if kind == "train"]
    assert len(uploads) == 12
    for content in uploads:
        names = announced(messages["fedmosaic"], content)
        assert "sketch" in names
        assert all(name == "sketch" or name[-2:] in (".A", ".B", ".P", ".Q") for name in names)
    private = load_tensors(finished["fedmosaic"][0] / "clients" / "client-000" / "round-0003.safetensors")
    assert {key.partition("|")[0] for key in private} == {
        "slot.local", "slot.personal_global", "gate", "moment", "memory",
    }  # fmt: skip


def test_local_only_training_uploads_nothing(finished, messages):
    seen = messages["sft"]
    assert {kind for kind, _, _ in seen} >= {"train", "evaluate"}
    assert not any(list(content.array_records) for _, request, reply in seen for content in (request, reply))


def test_what_the_server_sends_is_what_the_client_starts_from_and_training_moves_on(finished, messages):
    rounds = [entry for entry in messages["fedavg"] if entry[0] == "train"]
    shapes = announced(messages["fedavg"], rounds[0][2])
    first = wire.unpack(rounds[0][2], shapes, sender="x")
    llamas = [wire.unpack(rounds[i][2], shapes, sender="x") for i in (0, 1, 3)]
    download = wire.unpack(rounds[4][1], shapes, sender="x")
    for name in shapes:
        torch.testing.assert_close(download[name], torch.stack([each[name] for each in llamas]).mean(0))
    after = wire.unpack(rounds[4][2], shapes, sender="x")
    moved = [(after[name] - download[name]).abs().max() for name in shapes]
    back = [(after[name] - first[name]).abs().max() for name in shapes]
    # Two steps of Adam from the received weights end near them, not near the client's own last weights.
    # See docs/method-facts.md#optimiser-restore-undoes-the-download.
    assert sum(m < b for m, b in zip(moved, back, strict=True)) > 0.9 * len(moved)


@pytest.mark.parametrize("change", ["nan", "short", "round", "client", "silent"])
def test_a_bad_upload_stops_the_run_and_keeps_what_was_finished(tmp_path, monkeypatch, change):
    settings = resolve(PAIR, method="fedavg", rounds=2)
    folder = RunFolder.create(tmp_path / "run", settings)
    deliver = InProcessGrid._deliver

    def tampering(self, message):
        reply = deliver(self, message)
        if message.metadata.message_type == "train" and message.content["meta"]["round"] == 2:
            _tamper(reply.result().content, change)
        return reply

    monkeypatch.setattr(InProcessGrid, "_deliver", tampering)
    with pytest.raises((WireError, RunError), match="client 0"):
        engines.run(settings, folder)
    progress, _ = folder.latest_checkpoint()
    assert progress["round"] == 1
    assert folder.results() is None


def _tamper(content: RecordDict, change: str) -> None:
    values = content["tensors"]["flat"].numpy().copy() if change in ("nan", "short") else None
    if change == "nan":
        values[3] = float("nan")
        content["tensors"] = ArrayRecord({"flat": FlowerArray(values)})
    elif change == "short":
        content["tensors"] = ArrayRecord({"flat": FlowerArray(values[:-1])})
    elif change == "silent":
        del content["schema"]
    else:
        content["meta"][change] = 7


def test_a_failing_client_is_named_without_its_secrets(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError("/home/someone/patients.csv")

    settings = small()
    folder = RunFolder.create(tmp_path / "run", settings)
    config = {"settings": settings.to_toml(), "out": str(folder.path), "run": "clients"}
    nodes = [{"partition-id": i, "state": str(folder.path), "trust-paths": True} for i in range(4)]
    grid = InProcessGrid(client_app.make_app(), node_configs=nodes, run_config=config, catch=True)
    monkeypatch.setattr("fedmosaic.training.Client.timed", broken)
    monkeypatch.setenv(server_app.RUNS, str(tmp_path / "served"))
    with pytest.raises(RunError) as error:
        server_app.app(grid, Context(1, 1, {}, RecordDict(), config))
    assert "patients" not in str(error.value)


def test_a_folder_with_another_run_is_refused_and_left_alone(finished, tmp_path):
    path, _ = finished["sft"]
    before = sorted((file.name, file.stat().st_mtime_ns) for file in path.rglob("*"))
    with pytest.raises(SettingsError, match="already holds a run"):
        RunFolder.create(path, small("sft"))
    with pytest.raises(SettingsError, match="rounds: 3 there, 4 asked"):
        RunFolder.resume(path, small("sft", rounds=4))
    assert sorted((file.name, file.stat().st_mtime_ns) for file in path.rglob("*")) == before
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(SettingsError, match="something else"):
        RunFolder.create(tmp_path, small())
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_a_run_that_was_killed_before_it_had_settings_can_be_begun_again(tmp_path):
    left = tmp_path / ".settings.toml.999999999.part"
    left.write_text("rounds = ")
    folder = RunFolder.create(tmp_path, small())
    assert folder.settings == small()
    with folder.locked():
        assert not left.exists()


def test_a_process_that_is_about_to_end_is_waited_for_and_one_that_goes_on_is_named(tmp_path):
    """A SuperLink that was killed gives a run up whose process still lives for half a minute."""
    folder = RunFolder.create(tmp_path / "run", small())
    other = FileLock(folder.path / ".lock", thread_local=False)
    with other, pytest.raises(SettingsError, match="another process is running"), folder.locked():
        pass
    other.acquire()
    ends = threading.Timer(0.1, other.release)
    ends.start()
    with folder.locked(wait=60):
        assert not other.is_locked
    ends.join()


def test_a_killed_process_is_resumed_by_the_command_line_to_the_same_results(finished, tmp_path):
    """Kill -9 a real run after its first round, then --resume it."""
    from fedmosaic.config.settings import tomli_w

    _, results = finished["fedmosaic"]
    scenario = tmp_path / "small.toml"
    scenario.write_text(tomli_w.dumps(SMALL.model_dump(mode="json")))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "fedmosaic", "run", str(scenario), "--out", str(out), "--quiet"]
    process = subprocess.Popen(command, env=os.environ.copy())
    deadline = time.monotonic() + 120
    while not list((out / "checkpoints").glob("round-*")) and time.monotonic() < deadline:
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "results.json").exists()
    subprocess.run([*command[:3], "run", "--resume", "--out", str(out), "--quiet"], check=True, env=os.environ.copy())
    resumed = json.loads((out / "results.json").read_text())
    assert without_times(resumed) == without_times(results)
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("gate", ["sample", "token"])
def test_other_gates_run_and_are_trained(tmp_path, gate):
    settings = resolve(SMALL, overrides=[f"adapter.gate={gate}"], method="fedmosaic", rounds=2)
    results = run(tmp_path / gate, settings)
    assert 0 <= results["self"]["last"] <= 1
    client = tmp_path / gate / "clients" / "client-000"
    gates = {key: value for key, value in load_tensors(client / "round-0002.safetensors").items() if "gate|" in key}
    assert gates
    assert any(bool(value.abs().max() > 0) for value in gates.values())
