import json

import pytest

from fedmosaic.config import RunSettings, Scenario, builtin_names, load_scenario, resolve
from fedmosaic.data.mosaic40.tasks import CLIENTS
from fedmosaic.errors import SettingsError

SCENARIO = Scenario(
    name="two", clients=[{"id": 0, "model": "a", "tasks": ["t"]}, {"id": 1, "model": "b", "tasks": ["u"]}]
)


def test_the_command_line_beats_the_scenario_which_beats_the_defaults():
    scenario = SCENARIO.model_copy(update={"settings": {"rounds": 3, "training": {"steps": 7, "batch_size": 4}}})
    settings = resolve(scenario, overrides=["training.steps=9"], seed=5)
    assert (settings.rounds, settings.training.steps, settings.training.batch_size, settings.seed) == (3, 9, 4, 5)
    assert settings.adapter.rank == RunSettings(scenario=SCENARIO).adapter.rank


def test_the_command_line_changes_the_scenario_itself_too():
    static = resolve(SCENARIO, overrides=["scenario.protocol=static", "seed=1"])
    assert (static.scenario.protocol, static.seed) == ("static", 1)
    assert (SCENARIO.protocol, static.scenario.clients) == ("dynamic", SCENARIO.clients)


def test_settings_survive_toml(tmp_path):
    settings = resolve(SCENARIO, overrides=["method.temperature=0.25", "adapter.blocks=2"], method="fedmosaic")
    (tmp_path / "settings.toml").write_text(settings.to_toml())
    again = RunSettings.from_toml(tmp_path / "settings.toml")
    assert again == settings
    assert again.digest == settings.digest
    assert again.digest != resolve(SCENARIO, seed=1).digest


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainin.steps=3", ["trainin", "training"]),
        ("training.step=3", ["training.step", "steps"]),
        ("training.steps=0", ["training.steps", "0", "greater"]),
        ("training.learning_rate=inf", ["learning_rate", "finite"]),
        ("adapter.gate=big", ["big", "scalar"]),
        ("rounds", ["key=value", "'rounds'"]),
        ("seed.x=1", ["seed"]),
        ("scenario.settings.rounds=3", ["change nothing", ": rounds"]),
        ("scenario.settings={}", ["change nothing", "KEY"]),
        ("scenario.protocol=still", ["scenario.protocol", "'still'", "static"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(override, words):
    with pytest.raises(SettingsError) as error:
        resolve(SCENARIO, overrides=["seed=1", override])
    for word in words:
        assert word in str(error.value)


def test_unknown_scenario_names_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'mosaic40'"):
        load_scenario("mosaic41")


@pytest.mark.parametrize("name", builtin_names())
def test_every_builtin_scenario_is_valid(name):
    scenario = load_scenario(name)
    assert scenario.name == name
    resolve(scenario)


def test_published_form_is_read(tmp_path):
    entries = [
        {"client_id": 3, "model_id": "m", "datasets": [{"dataset": "VSR", "subset_id": 0, "type": "multi-choice"}]},
        {
            "client_id": 4,
            "model_id": "n",
            "datasets": [{"dataset": "TQA", "subset_id": 1, "type": "open", "metric": "F1"}],
        },
    ]
    path = tmp_path / "clients.json"
    path.write_text(json.dumps(entries))
    scenario = load_scenario(str(path))
    assert [(client.id, client.model, client.tasks) for client in scenario.clients] == [
        (3, "m", ("VSR-0",)),
        (4, "n", ("TQA-1",)),
    ]
    assert scenario.benchmark == "published"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '[{"client_id": 0, "model_id": "m"}]', ["entry 0", "datasets"]),
        ("a.json", "[{", ["not valid"]),
        ("a.json", "{}", ["list"]),
        ("a.toml", "name = ", ["not valid"]),
        ("a.toml", "clients = []", ["clients"]),
        ("a.toml", '[[clients]]\nid=0\nmodel="m"\ntasks=["t"]\n[[clients]]\nid=0\nmodel="m"\ntasks=["t"]', ["repeat"]),
        ("a.toml", '[[clients]]\nid=0\nmodel="m"\ntasks=["t"]\ncolour="red"', ["colour"]),
    ],
)
def test_a_broken_scenario_file_is_refused(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        load_scenario(str(path))
    for word in words:
        assert word in str(error.value)


def test_a_missing_scenario_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load_scenario(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("name", ["mosaic40", "mosaic40-homo", "mosaic40-two"])
def test_the_built_in_scenarios_share_one_assignment_of_tasks(name):
    assert tuple(client.tasks for client in load_scenario(name).clients) == CLIENTS


@pytest.mark.parametrize(("name", "models"), [("mosaic40", 3), ("mosaic40-homo", 1), ("mosaic40-two", 2)])
def test_the_built_in_scenarios_differ_in_their_models(name, models):
    assert len(load_scenario(name).models) == models
