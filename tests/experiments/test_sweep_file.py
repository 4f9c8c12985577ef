"""Sweep files: what they say is what the command line would, and what is wrong in them is named."""

from pathlib import Path

import pytest
from tests.cli.calling import call

from fedmosaic.config import load_scenario, resolve
from fedmosaic.errors import SettingsError
from fedmosaic.experiments import sweep
from fedmosaic.experiments.sweep_file import Sweep

SHIPPED = sorted((Path(__file__).parents[2] / "benchmarks" / "sweeps").glob("*.toml"))


def written(path, text):
    path.write_text(text)
    return path


def test_a_file_says_what_the_options_say(tmp_path):
    path = written(
        tmp_path / "mine.toml",
        """
        scenario = "own.toml"
        methods = ["sft", "ditto:strength=2", {method = "fedmosaic", gate = false, adapter.alignment = "none"}]
        seeds = [3, 4]
        rates = [0.3, 1]
        budget = "flops"
        rounds = 2
        [settings]
        training.steps = 5
        scenario.protocol = "static"
        """,
    )
    read = Sweep.read(path)
    assert read.options() == {
        "scenario": str(tmp_path / "own.toml"),
        "methods": "sft,ditto:strength=2,fedmosaic:gate=false:adapter.alignment=none",
        "seeds": "3,4",
        "rates": "0.3,1",
        "budget": "flops",
        "rounds": 2,
    }
    settings = resolve(load_scenario("demo"), overrides=read.overrides())
    assert (settings.training.steps, settings.scenario.protocol) == (5, "static")


def test_rates_of_an_earlier_comparison_lie_relative_to_the_file(tmp_path):
    path = written(tmp_path / "mine.toml", 'methods = ["sft"]\nrates = "earlier/comparison.json"')
    assert Sweep.read(path).options()["rates"] == str(tmp_path / "earlier" / "comparison.json")


def test_paths_are_relative_to_the_file_and_texts_are_as_written(tmp_path):
    (tmp_path / "bases").mkdir()
    text = """
    scenario = "own.toml-dirichlet-4"
    methods = ["sft"]
    [settings]
    scenario.data = "../data"
    scenario.system = "Be brief \U0001f642"
    adapter.alignment = "bases"
    """
    read = Sweep.read(written(tmp_path / "mine.toml", text))
    assert read.scenario == f"{tmp_path / 'own.toml'}-dirichlet-4"
    settings = resolve(load_scenario("demo"), overrides=[each for each in read.overrides() if "data" not in each])
    assert settings.scenario.system == "Be brief \U0001f642"
    assert settings.adapter.alignment == str(tmp_path / "bases")
    assert f'scenario.data="{tmp_path.parent / "data"}"' in read.overrides()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("methods = []", ["methods", "at least 1"]),
        ("seeds = [0]", ["'methods' is missing"]),
        ('methods = ["sft"]\nsede = [0]', ["'sede'", "did you mean 'seeds'"]),
        ('methods = ["sft"]\nbudget = "time"', ["budget", "'time'", "'steps' or 'flops'"]),
        ('methods = [{method = "sft", start = "a:b=c"}]', ["start=a:b=c of sft", "colon"]),
        ('methods = [{method = "sft", start = "a,b"}]', ["start=a,b of sft", "comma"]),
        ("methods = [3]", ["methods", "3"]),
        ("methods = ", ["is not valid"]),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, text, words):
    with pytest.raises(SettingsError) as error:
        Sweep.read(written(tmp_path / "mine.toml", text))
    assert all(word in str(error.value) for word in ["mine.toml", *words]), error.value


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_fields_sweeps_are_of_known_scenarios_methods_and_settings(path):
    read = Sweep.read(path)
    base = resolve(load_scenario(read.scenario), overrides=read.overrides())
    chosen = sweep.variants(base, read.methods)
    assert len({settings.digest for settings in chosen.values()}) == len(read.methods)


def test_options_of_the_command_line_come_before_the_file(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "mine.toml", 'scenario = "nowhere"\nmethods = ["stf"]\nseeds = [0]')
    for options, named in (
        ([], "'stf'"),
        (["--methods", "sft"], "'nowhere'"),
        (["demo", "--methods", "sft", "--set", "training.stepz=3"], "training.stepz"),
    ):
        status, _, error = call(monkeypatch, capsys, "compare", "--sweep", "mine.toml", *options)
        assert (status, named in error) == (2, True), error
    status, _, error = call(monkeypatch, capsys, "compare", "--sweep", "none.toml")
    assert (status, "cannot read sweep none.toml" in error) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]
