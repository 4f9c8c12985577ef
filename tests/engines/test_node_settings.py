from pathlib import Path

import pytest
from tests.federation.scenario import small

from fedmosaic.config import Scenario, resolve
from fedmosaic.errors import SettingsError
from fedmosaic.federation.node_settings import NodeSettings

OTHERS = {"partition-id": 1, "num-partitions": 4}


def node(**config):
    return NodeSettings.of({**OTHERS, **{key.replace("_", "-"): value for key, value in config.items()}})


def test_a_node_says_which_client_it_is():
    settings = small()
    assert [NodeSettings.of({"partition-id": i}).client(settings).id for i in range(4)] == [0, 1, 2, 3]
    with pytest.raises(SettingsError, match=r"partition-id=4, but the scenario has 4 clients"):
        NodeSettings.of({"partition-id": 4}).client(settings)


def test_without_own_paths_the_runs_settings_hold():
    settings = small()
    assert node().applied_to(settings) == settings


def test_a_nodes_own_paths_replace_those_of_the_run_for_this_client_alone():
    settings = small()
    applied = node(model="/srv/own", data="/srv/data", probe="tiny-gemma", alignment="/srv/bases", device="cuda")
    applied = applied.applied_to(settings)
    assert [client.model for client in applied.scenario.clients] == [
        "tiny-llama",
        "/srv/own",
        "tiny-gemma",
        "tiny-llama",
    ]
    assert (applied.scenario.data, applied.scenario.probe) == ("/srv/data", "tiny-gemma")
    assert (applied.adapter.alignment, applied.device) == ("/srv/bases", "cuda")
    assert applied.training == settings.training


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"data": "/srv/other"}, "data"),
        ({"probe": "~/probe"}, "probe"),
        (
            {"clients": [{"id": 0, "model": "tiny-llama", "tasks": ["a"]}, {"id": 1, "model": "/etc", "tasks": ["a"]}]},
            "model",
        ),
        (
            {
                "clients": [
                    {"id": 0, "model": "m", "tasks": ["a"]},
                    {"id": 1, "model": "m", "tasks": ["a"], "start": "/x"},
                ]
            },
            "start",
        ),
    ],
)
def test_a_server_names_no_folder_on_a_clients_machine(change, key):
    scenario = {
        "benchmark": "published",
        "data": "",
        "clients": [{"id": i, "model": "m", "tasks": ["a"]} for i in range(2)],
    }
    settings = resolve(Scenario.model_validate({**scenario, **change}))
    with pytest.raises(SettingsError, match=rf"as {key}, but a node takes folders from its own configuration only"):
        node().applied_to(settings)
    assert node(trust_paths=True).applied_to(settings) == settings


def test_a_path_in_a_methods_settings_is_refused():
    settings = small("fedmosaic-proxy").model_copy(update={"method_settings": {"proxy": "../elsewhere"}})
    with pytest.raises(SettingsError, match=r"'\.\./elsewhere' as method\.proxy"):
        node().applied_to(settings)


def test_state_is_kept_by_run_and_a_key_that_is_a_path_is_refused(tmp_path):
    own = node(state=str(tmp_path))
    assert own.state_folder("4f2a") == tmp_path / "4f2a"
    for key in ("../other", "", "a/b", ".", "a" * 65):
        with pytest.raises(SettingsError, match="letters, digits and dashes"):
            own.state_folder(key)


def test_what_a_node_does_not_know_is_named():
    with pytest.raises(SettingsError, match=r"unknown key 'modle'; did you mean 'model'"):
        node(modle="x")
    with pytest.raises(SettingsError, match="'partition-id' is missing"):
        NodeSettings.of({})


def test_its_table_is_read_back():
    own = node(model="/srv/own", resident=True, idle=5.0)
    assert NodeSettings.of(own.config()) == own
    assert Path(own.config()["model"]) == Path("/srv/own")


def test_other_clients_folders_are_not_known_here_and_never_looked_at():
    clients = [
        {"id": 0, "model": "tiny-llama", "tasks": ["a"]},
        {"id": 1, "model": "tiny-qwen2", "tasks": ["a"]},
        {"id": 2, "model": "/srv/elsewhere/model", "tasks": ["a"], "start": "/srv/elsewhere/lora"},
    ]
    settings = resolve(Scenario(name="s", clients=clients), method="fedavg")
    with pytest.raises(SettingsError, match=r"'/srv/elsewhere/model' as the model of client 2 and name no probe"):
        node().applied_to(settings)
    known = node(probe="tiny-llama").applied_to(settings).scenario.clients
    assert [(each.model, each.start) for each in known[1:]] == [("tiny-qwen2", ""), ("the model of client 2", "")]
    trusting = NodeSettings.of({**OTHERS, "trust-paths": True}).applied_to(settings)
    assert trusting.scenario.clients[2] == settings.scenario.clients[2]
