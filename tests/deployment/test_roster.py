"""The roster: who a node is follows from its key, whatever it says."""

from types import SimpleNamespace

import pytest
from flwr.app import Message, RecordDict
from tests.federation.scenario import small

from fedmosaic.deployment import Entry, Roster, new_node_key
from fedmosaic.deployment.keys import parse_public_key
from fedmosaic.errors import SettingsError
from fedmosaic.federation import flower, wire
from fedmosaic.federation.rostered import ROSTER, RosteredGrid, rostered

CLIENTS = [10, 11]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: new_node_key(folder / name) for name in ("hospital", "clinic", "stranger")}


@pytest.fixture
def roster(keys):
    names = ("hospital", "clinic")
    return Roster(clients=tuple(Entry(name=name, position=k, public_key=keys[name]) for k, name in enumerate(names)))


class Connected:
    """A grid whose nodes answer what they are told to."""

    def __init__(self, keys, answers):
        self.nodes = dict(enumerate(keys, start=70))
        self.keys = keys
        self.answers = answers

    def get_node_ids(self):
        return list(self.nodes)

    def get_nodes(self):
        pem = {name: parse_public_key(key) for name, key in self.keys.items()}
        return [SimpleNamespace(node_id=k, name=name, public_key=pem[name]) for k, name in self.nodes.items()]

    def pull_messages(self, message_ids):
        for node, name in self.nodes.items():
            flower.speak_as(run=1, node=1)
            asked = Message(RecordDict(), node, "query.hello")
            if name in self.answers:
                yield Message(wire.pack(self.answers[name]), reply_to=asked)


def answers_of(keys, roster, **said):
    grid = RosteredGrid(Connected(keys, said), roster, CLIENTS)
    assert grid.get_node_ids() == [70, 71]  # and not the stranger
    return list(grid.pull_messages([]))


def test_nodes_that_answer_as_what_their_keys_say_pass(keys, roster):
    replies = answers_of(keys, roster, hospital={"client": 10, "x": 1}, clinic={"client": 11, "x": 2})
    assert [reply.has_error() for reply in replies] == [False, False]
    assert wire.meta(replies[1].content, {"x": int}, sender="it") == {"x": 2}


@pytest.mark.parametrize("said", [{"client": 10}, {"client": 99}, {"client": "10"}, {"x": 1}])
def test_an_answer_in_anothers_name_is_an_error_that_says_whose_key_it_is(keys, roster, said):
    replies = answers_of(keys, roster, hospital={"client": 10}, clinic=said)
    assert [reply.has_error() for reply in replies] == [False, True]
    assert "the node of clinic" in replies[1].error.reason
    assert replies[1].metadata.src_node_id == 71


def test_a_scenario_with_more_clients_than_the_roster_is_refused(roster, tmp_path, monkeypatch):
    (tmp_path / "roster.toml").write_text(roster.to_toml())
    settings = small()
    grid = object()
    assert rostered(grid, settings) is grid
    monkeypatch.setenv(ROSTER, str(tmp_path / "roster.toml"))
    with pytest.raises(SettingsError, match="no node for the scenario's client"):
        rostered(grid, settings)


def test_a_roster_comes_back_from_its_file(roster, tmp_path):
    path = tmp_path / "roster.toml"
    path.write_text(roster.to_toml())
    assert Roster.load(path) == roster


@pytest.mark.parametrize("change", ["same key", "same position", "no key", "cut"])
def test_a_roster_that_cannot_be_right_is_refused(roster, keys, tmp_path, change):
    text = roster.to_toml()
    text = {
        "same key": text.replace(keys["clinic"], keys["hospital"]),
        "same position": text.replace("position = 1", "position = 0"),
        "no key": text.replace(keys["clinic"], "ecdsa-sha2-nistp384 AAAA"),
        "cut": text[:-20],
    }[change]
    (tmp_path / "roster.toml").write_text(text)
    with pytest.raises(SettingsError, match="roster"):
        Roster.load(tmp_path / "roster.toml")
