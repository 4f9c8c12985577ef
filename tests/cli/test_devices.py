"""``--device`` of every command that computes: taken, or refused in one line before anything is made."""

import pytest
from tests.cli.calling import call
from tests.cli.test_checkpoints import checkpoint, scenario, started  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow  # a whole run


@pytest.fixture(scope="module")
def run(scenario, tmp_path_factory):  # noqa: F811
    with pytest.MonkeyPatch.context() as patch:
        out = tmp_path_factory.mktemp("runs") / "run"

        class Silent:
            @staticmethod
            def readouterr():
                return type("Captured", (), {"out": "", "err": ""})

        assert started(patch, Silent, scenario, out, "model.dtype=bfloat16", "model.autocast=on")[0] == 0
    return out


def test_each_command_refuses_devices_that_are_not_there(monkeypatch, capsys, tmp_path, scenario, run):  # noqa: F811
    out = tmp_path / "out"
    commands = {
        "run": [scenario, "--out", out],
        "compare": [scenario, "--out", out, "--methods", "sft"],
        "align": ["mosaic40-small", "--out", out],
        "ask": [run, "which ?", "--client", 0],
        "evaluate": [run],
        "adapt": [run, "--tasks", "Odd-0"],
        "export": [run, "--client", 0, "--as", "lora", "--out", out],
    }
    for command, arguments in commands.items():
        for device, words in {
            "tpu": "this machine has cpu",
            "cuda:7": "cuda:7",
            "cpu:0,cpu:1": "names 2 devices",
        }.items():
            if "," in device and command in ("run", "compare"):  # these take several
                continue
            status, _, error = call(monkeypatch, capsys, command, *arguments, "--device", device)
            assert (status, len(error.strip().splitlines())) == (2, 1), (command, device, error)
            assert words in error
            assert not out.exists()


def test_a_finished_run_answers_on_the_asked_device(monkeypatch, capsys, run):
    status, _, error = call(monkeypatch, capsys, "ask", run, "which ? 1", "--client", 0, "--device", "cpu:0")
    assert status == 0, error
