"""What is used of Flower, and what it must be like."""

import ast
import datetime
import io
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode.nodestate import in_memory_nodestate

from fedmosaic.federation import flower
from fedmosaic.federation.engines.simulation import RayGrid
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.run_config import DEFAULTS

ROOT = Path(__file__).parents[2]
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp"}


def test_the_abstract_members_of_a_grid_are_those_that_are_implemented():
    known = {
        "set_run",
        "run",
        "create_message",
        "get_node_ids",
        "push_messages",
        "pull_messages",
        "send_and_receive",
    }
    assert Grid.__abstractmethods__ == known
    assert not InProcessGrid.__abstractmethods__
    assert not RayGrid.__abstractmethods__


@pytest.mark.slow
def test_flowers_internals_are_used_in_one_file():
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            inner = {name for name in names if name.split(".")[0] == "flwr"} - PUBLIC
            assert not inner or path.name == "flower.py", f"{path} imports {inner}"


def test_the_bundle_for_the_nodes_names_the_apps_and_holds_no_code():
    bundle = flower.app_bundle("fedmosaic", "0.1.0", DEFAULTS)
    with zipfile.ZipFile(io.BytesIO(bundle)) as file:
        assert set(file.namelist()) == {"pyproject.toml", ".info/CONTENT"}
        table = tomllib.loads(file.read("pyproject.toml").decode())
    assert table["tool"]["flwr"]["app"]["components"] == flower.COMPONENTS
    assert len(bundle) < 4096


def test_the_repository_is_the_same_flower_app():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert table["components"] == flower.COMPONENTS
    assert table["config"] == DEFAULTS


@pytest.mark.slow
def test_its_bundle_is_small_and_has_no_weights(tmp_path):
    build = Path(sys.executable).parent / "flwr"
    done = subprocess.run([build, "build", "--app", ROOT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (bundle,) = tmp_path.glob("*.fab")
    with zipfile.ZipFile(bundle) as file:
        assert {"pyproject.toml", "LICENSE"} <= set(file.namelist())
        assert not [name for name in file.namelist() if name.endswith((".safetensors", ".pt", ".npz", ".bin"))]
    assert bundle.stat().st_size < 100_000


@pytest.mark.slow
def test_nobody_is_told_of_a_run_unless_asked():
    code = (
        "import os; [os.environ.pop(name, None) for name in list(os.environ) if name.startswith(('FLWR_', 'RAY_'))];"
        "import fedmosaic.federation.flower, flwr.supercore.telemetry as t; print(t.FLWR_TELEMETRY_ENABLED,"
        "os.environ['FLWR_DISABLE_UPDATE_CHECK'], os.environ['RAY_USAGE_STATS_ENABLED'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1", "0"]


@pytest.mark.slow
def test_handing_a_message_on_loads_no_torch():
    code = "import sys, fedmosaic.federation.forwarding; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (None, "is missing"),
        ('[superlink.other]\naddress = "127.0.0.1:1"\n', "'here' not found"),
        ('[superlink.here]\naddress = ":local:"\n', "no address of a running SuperLink"),
    ],
)
def test_a_superlink_that_is_not_there_is_named(tmp_path, monkeypatch, config, problem):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    if config is not None:
        (tmp_path / "flower").mkdir()
        (tmp_path / "flower" / "config.toml").write_text(config)
    with pytest.raises(flower.SettingsError, match=problem):
        flower.SuperLink("here")
    assert config is not None or not (tmp_path / "flower").exists()


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("ends", ["stopped", "silent"])
def test_a_node_answers_for_an_app_that_ends_without_an_answer(monkeypatch, taken, ends):
    """Without this, it would take no message any more. (Who takes it out: Flower alone answers in one case of four.)"""
    state_class = in_memory_nodestate.InMemoryNodeState
    for name in ("finish_task", "_on_task_tokens_expired"):
        monkeypatch.setattr(state_class, name, getattr(state_class, name))
    flower.answer_for_ended_apps()
    flower.speak_as(run=7, node=1)
    message = Message(RecordDict(), 2, "train")
    message.metadata.__dict__["_message_id"] = message.object_id
    flower.speak_as(run=7, node=2)
    state = state_class(ObjectStoreFactory().store())
    state.store_message(message)
    task = state.create_task("flwr-clientapp", 7)
    assert state.claim_task(task)
    assert state.activate_task(task)
    if taken:
        assert state.get_messages_legacy(run_ids=[7], is_reply=False, limit=1)
    if ends == "stopped":
        assert state.finish_task(task, "failed", "the SuperExec is gone")
    else:
        state.task_token_store[task].active_until = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    (answer,) = state.get_messages_legacy(is_reply=True)
    assert answer.has_error()
    assert answer.metadata.reply_to_message_id == message.metadata.message_id
