"""What clients uploaded when they last learned something else: who starts a skill receives from who learned it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from tests.federation.scenario import small

from fedmosaic.errors import SettingsError
from fedmosaic.io import load_tensors, save_tensors
from fedmosaic.methods.aggregators.base import make_aggregator
from fedmosaic.methods.registry import make_method
from fedmosaic.methods.upload_memory import MemorySettings, UploadMemory, is_kept
from fedmosaic.methods.uploads import Upload, Uploads

P, PROXY = "block.0.q.P", "proxy.layer.0.q.A"
SKILLS = {"count": (1.0, 0.0, 0.0), "read": (0.0, 1.0, 0.0), "sort": (0.0, 0.0, 1.0)}
EMA = 0.5


@dataclass
class State:
    """What a method's server half is given."""

    tensors: dict = field(default_factory=dict)
    round: int = 2
    scratch: Path = Path("never")


def history(*rounds, name=P):
    """The uploads after each round; what a client learns in it is given by client. Values name client and round."""
    running, last = {}, Uploads([])
    for number, skills in enumerate(rounds, start=1):
        uploads = []
        for client, skill in skills.items():
            release = torch.tensor(SKILLS[skill])
            running[client] = torch.lerp(running.get(client, release), release, EMA)
            value = torch.full((2, 2), 10.0 * number + client)
            uploads.append(Upload(client, f"model-{client}", {name: value, "sketch": running[client]}, 8, number))
        last = last.updated(Uploads(uploads))
        yield last


def memory(**settings):
    return UploadMemory(MemorySettings(**{"remembered": 8, **settings}), ema=EMA)


def after(made, rounds):
    for uploads in rounds:
        made = made.after(uploads)
    return made


def kept(made):
    return [(task.client, task.round, task.tensors[P][0, 0].item()) for task in made.over]


def test_the_last_upload_before_a_task_changed_is_kept_with_the_mean_of_the_tasks_own_releases():
    rounds = [{0: "count", 1: "sort"}, {0: "count", 1: "sort"}, {0: "read", 1: "sort"}, {0: "read", 1: "sort"}]
    made = after(memory(), history(*rounds))
    assert kept(made) == [(0, 2, 20.0)]
    torch.testing.assert_close(made.over[0].sketch, torch.tensor(SKILLS["count"]))
    now = {task.client: task for task in made.tasks if not task.over}
    torch.testing.assert_close(now[0].sketch, torch.tensor(SKILLS["read"]))  # nothing is left of the former task
    assert (now[0].releases, now[1].releases) == (2, 4)


def test_a_task_that_was_learned_twice_is_kept_once_and_a_silent_client_learns_nothing_else():
    rounds = [{0: "count"}, {0: "read"}, {0: "count"}, {0: "sort"}]
    assert kept(after(memory(), history(*rounds))) == [(0, 2, 20.0), (0, 3, 30.0)]
    first, second = list(history({0: "count", 1: "read"}, {1: "read"}))
    made = after(memory(), (first, second, second))
    assert kept(made) == []
    assert [task.releases for task in made.tasks] == [1, 2]


@pytest.mark.parametrize(("limits", "expected"), [
    ({"remembered": 2}, [(0, 2, 20.0), (1, 2, 21.0)]),
    ({"remembered": 1}, [(1, 2, 21.0)]),
    ({"remembered_megabytes": 5.5 * 40 / 2**20}, [(0, 1, 10.0), (0, 2, 20.0), (1, 2, 21.0)]),  # two are of now
    ({"remembered_megabytes": 2.5 * 40 / 2**20}, [(0, 2, 20.0)]),  # client 1's last upload does not fit
])  # fmt: skip
def test_count_and_bytes_are_bounded_and_the_oldest_go_first(limits, expected):
    """An upload is 16 bytes, and its two sketches 24."""
    rounds = [{0: "count", 1: "sort"}, {0: "read", 1: "sort"}, {0: "sort", 1: "count"}]
    made = after(memory(**limits), history(*rounds))
    assert kept(made) == expected
    size = sum(each.nbytes for name, each in made.as_state().items() if name != "memory.tasks")
    assert size <= made.settings.remembered_megabytes * 2**20


def test_those_of_a_client_that_left_go_with_it():
    *_, last = rounds = list(history({0: "count", 1: "sort"}, {0: "read", 1: "sort"}))
    made = after(memory(), rounds)
    assert kept(made) == [(0, 1, 10.0)]
    assert [task.client for task in made.after(Uploads([last[1]])).tasks] == [1]


def test_who_starts_a_skill_receives_from_who_learned_it_earlier():
    """Client 0 has counted and reads now; client 1 starts to count when nobody else does."""
    rounds = history({0: "count", 1: "sort"}, {0: "read", 1: "count"})
    method = make_method("fedmosaic", {"remembered": 4, "temperature": 1e-3, "relevance": "rela"})
    state = {}
    for uploads in rounds:
        result = method.aggregate(uploads, State(state))
        state = result.state
    assert result.downloads[1][P][0, 0] == 10.0  # client 0's of round 1, and not that of now
    # nobody else reads: of the three others that client 0 may learn from, one is its own of before
    torch.testing.assert_close(result.relevance, torch.tensor([[1 / 3, 2 / 3], [1.0, 0.0]]))
    assert list(result.downloads) == [0, 1]
    assert result.similarity.shape == (2, 2)
    forgetful = make_method("fedmosaic", {"temperature": 1e-3}).aggregate(uploads, State())
    assert forgetful.downloads[1][P][0, 0] == 20.0
    assert forgetful.state == {}


def test_proxies_are_remembered_and_the_mean_is_that_of_the_clients_alone():
    rounds = history({0: "count", 1: "sort"}, {0: "read", 1: "count"}, name=PROXY)
    first, second = rounds
    settings = {"remembered": 4, "temperature": 1e-3, "relevance": "sketch", "self_weight": 0.5}
    method = make_method("fedmosaic-proxy", settings)
    state = method.aggregate(first, State()).state
    result = method.aggregate(second, State(state))
    assert result.downloads[1][PROXY][0, 0] == pytest.approx(0.5 * 21 + 0.5 * 10)
    mean = make_method("fedmosaic-proxy", {**settings, "relevance_share": 0.0}).aggregate(second, State(state))
    assert mean.downloads[1][PROXY][0, 0] == pytest.approx((20 + 21) / 2)


def test_the_state_goes_through_a_file_unchanged(tmp_path):
    rounds = list(history({0: "count", 1: "sort"}, {0: "read", 1: "sort"}, {0: "read", 1: "count"}))
    made = after(memory(), rounds)
    save_tensors(tmp_path / "state", made.as_state())
    again = memory().with_state(load_tensors(tmp_path / "state"))
    assert kept(again) == kept(made)
    assert [replace(task, tensors={}, sketch=0, running=0) for task in again.tasks] == [
        replace(task, tensors={}, sketch=0, running=0) for task in made.tasks
    ]
    torch.testing.assert_close(again.as_state(), made.as_state(), rtol=0, atol=0)
    assert memory().with_state({}).tasks == []
    beside = made.beside(rounds[-1].towards([1]))
    assert [is_kept(client) for client in beside] == [False, False, True, True]
    assert beside.receivers == [1]
    rule = make_aggregator("median", 0.2)
    assert made.beside(rounds[-1].combined_by(rule)).rule is rule


def test_of_updates_a_change_is_a_change_of_what_sets_a_client_apart():
    """All have much in common; only what is left of it tells that client 0 has changed."""
    common = torch.tensor([9.0, 9.0, 9.0])
    made = UploadMemory(MemorySettings(remembered=4), ema=1.0, centred=True)
    for number, skills in enumerate(("count", "sort"), start=1):
        sketches = (common + torch.tensor(SKILLS[skill]) for skill in (skills, "read", "sort"))
        made = made.after(
            Uploads(
                Upload(client, "a", {P: torch.ones(2, 2), "sketch": sketch}, 8, number)
                for client, sketch in enumerate(sketches)
            )
        )
    assert [(task.client, task.round) for task in made.over] == [(0, 1)]


@pytest.mark.parametrize("silent", [0, 1])
def test_what_one_client_alone_has_is_not_common_to_all(silent):
    """Only client 0 says anything; it goes on with what it has learned, and then learns something else."""
    made = UploadMemory(MemorySettings(remembered=4), ema=1.0, centred=True)
    for number, skill in enumerate(("count", "count", "sort"), start=1):
        assert not any(client == 0 for client, *_ in kept(made))
        sketches = [torch.tensor(SKILLS[skill]), *silent * [torch.zeros(3)]]
        made = made.after(
            Uploads(
                Upload(client, "a", {P: torch.full((2, 2), 10.0 * number), "sketch": sketch}, 8, number)
                for client, sketch in enumerate(sketches)
            )
        )
    assert [each for each in kept(made) if each[0] == 0] == [(0, 2, 20.0)]


@pytest.mark.parametrize("rule", ["norm-bound", "trimmed-mean", "median", "multi-krum"])
def test_a_memory_beside_a_rule_that_counts_heads_is_refused(rule):
    method, chosen = make_method("fedmosaic", {"remembered": 4}), {"rule": rule}
    with pytest.raises(SettingsError, match=rf"method\.remembered=4: .*aggregation\.rule={rule} .*remembered=0"):
        method.check(small(aggregation=chosen))
    method.check(small(aggregation={"rule": "mean"}))
    make_method("fedmosaic", {}).check(small(aggregation=chosen))
    with pytest.raises(SettingsError, match=rf"aggregation\.rule={rule}"):
        make_method("fedmosaic-proxy", {"remembered": 4, "relevance": "sketch"}).check(
            small("fedmosaic-proxy", aggregation=chosen)
        )


@pytest.mark.parametrize("method", ["fedmosaic", "fedmosaic-proxy"])
def test_a_memory_without_sketches_is_refused(method):
    settings = {"remembered": 4, "relevance": "uniform"}
    with pytest.raises(SettingsError, match=r"method\.remembered=4"):
        make_method(method, settings).check(small(method))
