"""A run survives kills, damaged files and full disks: it ends with the results of one that nothing happened to."""

import errno
import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest
from benchmarks._kills import Moment, Tally, damage, differences, forked, leftovers, tiny

from fedmosaic.errors import RunError
from fedmosaic.federation import Assets, RunFolder, engines
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.client_store import ClientStore
from fedmosaic.training import ClientState

ROOT = Path(__file__).parents[2]


class StopAfter(Callback):
    """As if the process had been killed after a round's checkpoint."""

    def __init__(self, round_):
        self.round = round_

    def on_checkpoint(self, record):
        if record.round == self.round:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    folder = RunFolder.create(tmp_path_factory.mktemp("whole") / "run", settings)
    engines.run(settings, folder)
    return folder.path


@pytest.fixture(scope="module")
def stopped(settings, tmp_path_factory):
    """Stopped after its second round of three."""
    folder = RunFolder.create(tmp_path_factory.mktemp("stopped") / "run", settings)
    with pytest.raises(KeyboardInterrupt):
        engines.run(settings, folder, callbacks=[StopAfter(2)])
    return folder.path


@pytest.fixture
def copy(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def told(path):
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    resumed = [event["round"] for event in events if event["event"] == "resumed"]
    return resumed, [event["text"] for event in events if event["event"] == "warning"]


FILES = {
    "checkpoints/round-0002/server.safetensors": "server.safetensors is damaged",
    "checkpoints/round-0002/progress.json": "progress.json is damaged",
    "uploads/client-00001/round-0002.safetensors": "round-0002.safetensors is damaged",
    "clients/client-001/round-0002.safetensors": "client 1 lacks its state, or has a damaged one",
}


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *((name, flip) for name in FILES),
        (list(FILES)[1], cut),
        (list(FILES)[2], os.unlink),
        (list(FILES)[3], os.unlink),
    ],
)
@pytest.mark.slow
def test_a_damaged_file_takes_the_run_back_to_the_round_before_and_this_is_said(settings, whole, copy, name, harm):
    harm(copy / name)
    engines.run(settings, RunFolder(copy))
    assert differences(copy, whole) == []
    resumed, (warning,) = told(copy)
    assert resumed == [1]
    assert warning.startswith("round 2: ")
    gone = harm is os.unlink and not name.startswith("clients")
    assert (FILES[name].replace("damaged", "missing") if gone else FILES[name]) in warning


@pytest.mark.slow
def test_without_a_whole_round_it_begins_anew_while_nothing_was_dropped_and_else_says_why_not(settings, whole, copy):
    for round_ in (1, 2):
        flip(copy / "checkpoints" / f"round-000{round_}" / "server.safetensors")
    dropped = shutil.copytree(copy, copy.with_name("dropped"))
    engines.run(settings, RunFolder(copy))
    assert differences(copy, whole) == []
    assert told(copy)[0] == [0]
    for round_ in (2, 1):
        (dropped / "checkpoints" / f"round-000{round_}").rename(dropped / "checkpoints" / f"round-000{round_ + 1}")
    with pytest.raises(RunError, match=r"no state that is kept .* is whole \(round 3: .* / round 2: .*anew$"):
        engines.run(settings, RunFolder(dropped))
    assert RunFolder(dropped).rounds_kept() == [3, 2]


@pytest.mark.slow
def test_scores_that_were_lost_before_the_end_are_measured_again(settings, whole, copy):
    with pytest.raises(KeyboardInterrupt):
        engines.run(settings, RunFolder(copy), callbacks=[StopAfter(3)])
    scores = json.loads((copy / "scores.json").read_text())
    scores["0"]["Capitals-0"][0] = 0.25
    (copy / "scores.json").write_text(json.dumps(scores))
    engines.run(settings, RunFolder(copy))
    assert differences(copy, whole) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4, 8, 12])
def test_a_full_disk_ends_the_run_and_costs_nothing_that_was_finished(settings, whole, copy, monkeypatch, count):
    calls, replace = 0, os.replace

    def full(*names):
        nonlocal calls
        calls += 1
        if calls == count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(*names)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        engines.run(settings, RunFolder(copy))
    monkeypatch.undo()
    assert leftovers(copy) == []
    engines.run(settings, RunFolder(copy))
    assert differences(copy, whole) == []
    assert told(copy)[1] == []


def fill_disk_of(monkeypatch, client, round_):
    """Let this client's disk be full when it is to keep its state after a round, in the first attempt."""
    name, replace = f"client-{client:03d}/round-{round_:04d}.safetensors", os.replace
    full = [True]

    def replacing(source, target):
        if full and str(target).endswith(name):
            full.clear()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replacing)


@pytest.mark.slow
def test_a_full_disk_of_one_client_ends_the_run_which_goes_on_when_there_is_room(settings, whole, copy, monkeypatch):
    fill_disk_of(monkeypatch, client=1, round_=3)
    with pytest.raises(OSError, match="No space left on device"):
        engines.run(settings, RunFolder(copy))
    assert not (copy / "uploads" / "client-00001" / "round-0003.safetensors").exists()  # nothing was sent of it
    assert leftovers(copy) == []
    engines.run(settings, RunFolder(copy))
    assert differences(copy, whole) == []


@pytest.mark.slow
def test_a_full_disk_of_one_client_makes_it_miss_a_round_where_the_others_are_enough(settings, tmp_path, monkeypatch):
    rules = settings.participation.model_copy(update={"min_clients": 1})
    tolerant = settings.model_copy(update={"participation": rules})
    folder = RunFolder.create(tmp_path / "run", tolerant)
    fill_disk_of(monkeypatch, client=1, round_=2)
    engines.run(tolerant, folder)
    results = folder.results()
    assert [(each.round, each.client, each.exchange) for each in results.missing] == [(2, 1, "training")]
    assert results.missing[0].why == "failed: OSError"
    assert leftovers(folder.path) == []
    kept = ClientStore(folder.client_folder / "client-001")
    assert kept.rounds == [1, 3]
    assert kept.load(3).missed == (2,)  # it went on from the state that it had, and knows which round it missed


@pytest.mark.slow
def test_kills_at_random_write_points_and_damage_do_not_change_the_results(settings, whole, tmp_path):
    dice, tally = random.Random(1), Tally()
    while tally.endings < 2:
        moment = Moment(call=dice.randrange(1, 150), lost=dice.random())
        place = forked(settings, tmp_path / "run", Assets, moment)
        if place is not None:
            tally.kills[place] += 1
            if sum(tally.kills.values()) == 2:
                damage(tmp_path / "run", dice)
            continue
        assert differences(tmp_path / "run", whole) == []
        assert leftovers(tmp_path / "run") == []
        tally.endings += 1
        shutil.rmtree(tmp_path / "run")
    assert sum(tally.kills.values()) > 2


def test_an_interrupted_line_of_the_event_log_does_not_take_the_next_one_with_it(tmp_path):
    from fedmosaic.federation import event_log
    from fedmosaic.federation.callbacks import Checkpoint

    path = tmp_path / "events.jsonl"
    event_log.append(path, Checkpoint(1))
    with path.open("a") as file:
        file.write('{"time": 1, "ev')
    event_log.append(path, Checkpoint(2))
    assert [line.what for line in event_log.read(path)] == [Checkpoint(1), Checkpoint(2)]


def test_the_guide_says_what_is_kept_and_names_its_tests(tmp_path):
    guide = (ROOT / "docs" / "resume.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", guide))
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 5
    assert not [name for name in named if f"def {name}(" not in written]
    folder, store = RunFolder(tmp_path), ClientStore(tmp_path / "client")
    for round_ in range(1, 7):
        folder.save_checkpoint(round_, {"uploads": {}}, {})
        store.save(round_, ClientState({}, {}))
    kept = len(folder.rounds_kept()), len(list(store.folder.iterdir()))
    assert kept == (2, 3)
    assert f"of the last {kept[0]} rounds" in guide
    assert f"after its last {kept[1]} rounds" in guide
