"""The roster: who a node is follows from its key, whatever it says."""

from types import SimpleNamespace

import pytest

from fedmosaic.deployment import Entry, Roster, new_node_key
from fedmosaic.deployment.keys import parse_public_key
from fedmosaic.errors import RunError, SettingsError


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: new_node_key(folder / name) for name in ("hospital", "clinic", "stranger")}


@pytest.fixture
def roster(keys):
    names = ("hospital", "clinic")
    return Roster(clients=tuple(Entry(name=name, position=k, public_key=keys[name]) for k, name in enumerate(names)))


def connected(keys, **numbers):
    return [
        SimpleNamespace(node_id=k, name=name, public_key=parse_public_key(keys[name])) for name, k in numbers.items()
    ]


def test_nodes_that_say_what_their_keys_say_pass(roster, keys):
    nodes = connected(keys, clinic=70, hospital=90)
    roster.check(nodes, {90: 0, 70: 1})
    assert roster.positions([*nodes, *connected(keys, stranger=5)]) == {90: 0, 70: 1}


def test_a_node_that_says_it_is_another_is_refused(roster, keys):
    with pytest.raises(RunError, match=r"node 70 \(clinic\) says it is hospital, but its key belongs to clinic"):
        roster.check(connected(keys, clinic=70, hospital=90), {90: 0, 70: 0})


def test_a_node_that_is_not_on_the_roster_is_refused(roster, keys):
    with pytest.raises(RunError, match=r"node 5 \(stranger\) is not on the roster"):
        roster.check(connected(keys, hospital=90, stranger=5), {90: 0, 5: 1})


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
