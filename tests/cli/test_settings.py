import json

import pytest
from tests.cli.calling import call

from fedmosaic.config import RunSettings, load_scenario, resolve
from fedmosaic.methods.registry import method_classes

pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture
def listed(monkeypatch, capsys):
    status, output, _ = call(monkeypatch, capsys, "settings", "list", "--format", "json")
    assert status == 0
    return {(each["method"], each["key"]): each for each in json.loads(output)}


def test_every_setting_is_listed_with_its_default(listed):
    def leaves(table, prefix=""):
        for key, value in table.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    plain = RunSettings(scenario=load_scenario("demo")).model_dump(exclude={"scenario", "method_settings"})
    found = {key: each["default"] for (method, key), each in listed.items() if not method}
    assert found == {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in leaves(plain)}
    assert {method for method, _ in listed} - {""} == {
        name for name, kind in method_classes().items() if kind.Settings.__dataclass_fields__
    }


def test_every_general_setting_says_what_it_means(listed):
    assert [key for (method, key), each in listed.items() if not method and not each["meaning"]] == []


def test_names_and_the_papers_values_are_told(listed):
    assert listed["", "adapter.gate"]["values"] == ["sample", "scalar", "step", "token"]
    assert listed["", "evaluation.split"]["values"] == ["test", "validation"]
    assert listed["", "adapter.blocks"]["source"] == "the paper has 4."
    assert listed["fedmosaic", "method.privacy.delta"]["default"] == "1e-05"
    assert listed["fedmosaic", "method.colora"]["default"] == "true"


def test_each_default_is_what_set_takes(listed):
    for (method, key), each in listed.items():
        if not method and key not in ("planned_rounds",):
            assert resolve(load_scenario("demo"), overrides=[f"{key}={each['default']}"])


def test_tables_and_single_settings(monkeypatch, capsys):
    status, output, _ = call(monkeypatch, capsys, "settings", "list", "--format", "markdown", "--method", "takfl")
    assert status == 0
    assert "| takfl | `method.self_temperature` | 20.0 |  | T_self. |" in output.splitlines()
    assert "perada" not in output.split("method.", 1)[1]
    assert "training.steps" in call(monkeypatch, capsys, "settings", "list")[1]
    status, output, _ = call(monkeypatch, capsys, "settings", "show", "method.temperature", "--method", "fedmosaic")
    assert (status, output.splitlines()[:2]) == (0, ["method.temperature (fedmosaic)", "  default: 0.5"])


def test_an_unknown_setting_is_named(monkeypatch, capsys):
    status, _, error = call(monkeypatch, capsys, "settings", "show", "training.step")
    assert status == 2
    assert "did you mean 'training.steps'?" in error


def test_a_method_that_was_typed_at_a_prompt_is_listed_without_meanings(monkeypatch, capsys):
    typed = """
from dataclasses import dataclass
from fedmosaic.methods.sft import Sft
from fedmosaic.registry import METHODS

@METHODS.register
class Typed(Sft):
    name = "typed"

    @dataclass(frozen=True)
    class Settings:
        pull: float = 0.25
        \"\"\"Nobody can read this: there is no file.\"\"\"
"""
    exec(typed, {"__name__": "prompt"})
    status, output, _ = call(monkeypatch, capsys, "settings", "list", "--method", "typed", "--format", "json")
    assert status == 0
    own = [each for each in json.loads(output) if each["method"] == "typed"]
    assert [(each["key"], each["default"], each["meaning"]) for each in own] == [("method.pull", "0.25", "")]
