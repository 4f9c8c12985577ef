"""Scenario files: paths are relative to them, and what is wrong is named with file, key and the nearest known key."""

import json
from pathlib import Path

import pytest

from fedmosaic.config import Scenario, load_scenario, resolve
from fedmosaic.config.names import ALIGNMENTS
from fedmosaic.errors import SettingsError

CLIENT = '[[clients]]\nid = 0\nmodel = "tiny-llama"\ntasks = ["t"]\n'
MIXED = [
    {"dataset": "A", "subset_id": i, "type": "open-ended", "metric": metric}
    for i, metric in enumerate(("F1", "RougeL"))
]


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"probes = 'x'\n{CLIENT}", ["unknown key 'probes'", "did you mean 'probe'"]),
        (f"{CLIENT}taks = 3\n", ["unknown key 'clients.0.taks'", "did you mean 'tasks'"]),
        (f"[settings]\nround = 3\n{CLIENT}", ["unknown key 'settings.round'", "did you mean 'rounds'"]),
        (f"[settings.training]\nstep = 3\n{CLIENT}", ["'settings.training.step'", "did you mean 'steps'"]),
        (f"[settings.training]\nsteps = 0\n{CLIENT}", ["settings.training.steps = 0", "greater"]),
        (f"[settings.adapter]\ngate = 'tokens'\n{CLIENT}", ["settings.adapter.gate", "did you mean 'token'"]),
        (f"[settings.scenario]\nname = 'x'\n{CLIENT}", ["unknown key 'settings.scenario'"]),
        (f"[division]\nclient = 3\n{CLIENT}", ["unknown key 'division.client'", "did you mean 'clients'"]),
        (f"[division]\nclients = 3\nalpha = 0\n{CLIENT}", ["division.alpha = 0"]),
        (f"protocol = 'dynamik'\n{CLIENT}", ["protocol = 'dynamik'", "did you mean 'dynamic'"]),
        (CLIENT.replace('"t"', '"t", "t"'), ["client 0", "'t' twice"]),
        (f"{CLIENT}shares = {{ t = [0.5, 1.5] }}\n", ["client 0", "0.5 to 1.5"]),
        (CLIENT.replace('"tiny-llama"', "3"), ["clients.0.model = 3: input should be a valid string"]),
        ("x = " + "[" * 20_000, ["not valid"]),
        (f'{CLIENT}start = "a\\u0000b"\n', ["cannot be a path"]),
    ],
)
def test_a_wrong_file_is_named_with_key_and_nearest_key(tmp_path, text, words):
    path = written(tmp_path / "wrong.toml", text)
    with pytest.raises(SettingsError) as error:
        load_scenario(path)
    for word in (path, *words):
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert "after validation" not in str(error.value)  # a list is not too short because its entries are wrong


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"modelid": "m"}, ["entry 0.modelid", "did you mean 'model_id'"]),
        ({"datasets": [{"dataset": "A", "subset_id": 0, "type": "open-endet"}]}, ["'open-endet'", "'open-ended'"]),
        ({"datasets": [{"dataset": "A", "subset_id": 0, "type": "open", "metric": "Rouge"}]}, ["'Rouge'", "RougeL"]),
        ({"datasets": [{"dataset": "A", "subset_id": 0}] * 2}, ["'A-0' twice"]),
        ({"datasets": MIXED}, ["F1, RougeL", "one"]),
    ],
)
def test_a_wrong_published_file_is_named_too(tmp_path, entry, words):
    path = written(tmp_path / "wrong.json", json.dumps([{"client_id": 0, "model_id": "m", "datasets": [], **entry}]))
    with pytest.raises(SettingsError) as error:
        load_scenario(path)
    for word in (path, *words):
        assert word in str(error.value)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    assert load_scenario(written(tmp_path / "a.toml", f"\ufeff{CLIENT}")).clients[0].tasks == ("t",)


def test_paths_are_relative_to_the_file_wherever_one_stands(tmp_path, monkeypatch):
    for folder in ("own/model", "own/hub/model", "own/bases", "own/tiny-qwen2"):
        (tmp_path / folder).mkdir(parents=True)
    text = 'benchmark = "published"\ndata = "../data"\nprobe = "./hub/model"\n[settings.adapter]\nalignment = "bases"\n'
    for i, model in enumerate(("model", "hub/model", "./tiny-qwen2", "tiny-qwen2", "meta/llama", "~/x", "../gone")):
        text += f'[[clients]]\nid = {i}\nmodel = "{model}"\ntasks = ["t"]\nstart = "lora"\n'
    path = written(tmp_path / "own" / "s.toml", text)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    for name in (path, "own/s.toml"):
        settings = resolve(load_scenario(name))
        monkeypatch.chdir("/")
        assert settings.scenario.data == str(tmp_path / "data")
        assert settings.scenario.probe == str(tmp_path / "own/hub/model")
        assert settings.adapter.alignment == str(tmp_path / "own/bases")
        assert {client.start for client in settings.scenario.clients} == {str(tmp_path / "own/lora")}
        assert [client.model for client in settings.scenario.clients] == [
            *(str(tmp_path / "own" / name) for name in ("model", "hub/model", "tiny-qwen2")),
            "tiny-qwen2",  # the built-in one, though there is such a folder
            "meta/llama",
            "/home/me/x",
            str(tmp_path / "gone"),
        ]
        monkeypatch.chdir(tmp_path)


def test_a_folder_here_is_not_taken_for_one_beside_the_file(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    path = written(tmp_path / "own" / "s.toml", CLIENT.replace("tiny-llama", "model"))
    monkeypatch.chdir(tmp_path)
    assert resolve(load_scenario(path)).scenario.clients[0].model == "model"


def test_paths_of_a_scenario_in_python_are_relative_to_where_one_is(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    clients = [
        {"id": i, "model": name, "tasks": ["t"]} for i, name in enumerate(("./a", "../b", "model", "tiny-llama"))
    ]
    found = resolve(Scenario(name="mine", clients=clients, probe="./a")).scenario
    wanted = [str(tmp_path / "a"), str(tmp_path.parent / "b"), "model", "tiny-llama"]
    assert [client.model for client in found.clients] == wanted
    assert found.probe == str(tmp_path / "a")


def test_paths_of_the_command_line_are_relative_to_where_one_is(tmp_path, monkeypatch):
    (tmp_path / "bases").mkdir()
    monkeypatch.chdir(tmp_path)
    text = 'benchmark = "published"\n' + CLIENT
    scenario = load_scenario(written(tmp_path / "own" / "s.toml", text))
    found = resolve(scenario, overrides=["scenario.data=data", "adapter.alignment=bases"])
    assert (found.scenario.data, found.adapter.alignment) == (str(tmp_path / "data"), str(tmp_path / "bases"))
    assert resolve(scenario, overrides=["adapter.alignment=joint"]).adapter.alignment == "joint"


@pytest.mark.parametrize("name", ["own.toml", "own.json", "fed-scope"])
def test_the_environment_names_the_data_of_those_that_name_none(tmp_path, monkeypatch, name):
    written(tmp_path / "own.toml", 'benchmark = "published"\n' + CLIENT)
    entry = {"client_id": 0, "model_id": "m", "datasets": [{"dataset": "A", "subset_id": 0}]}
    written(tmp_path / "own.json", json.dumps([entry]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDMOSAIC_DATA", "data")
    assert resolve(load_scenario(name)).scenario.data == str(tmp_path / "data")


def test_names_that_win_over_folders_are_all_that_exist():
    from fedmosaic.alignment import MODES

    assert set(ALIGNMENTS) == set(MODES)
