"""docs/deploy.md: every command of the guide as it stands there, with Flower's programs; then what has come out."""

import json
import re
from pathlib import Path

import pytest
from tests.deployment.processes import Programs, free_ports, free_row, key_material

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "deploy.md").read_text()
ORGANISATIONS = ("hospital", "clinic", "lab")


def script(ports):
    """The guide's commands; nothing is changed in them but the ports, which may be taken."""
    proxy, superlink, node = ports
    files = re.findall(r"^`(\S+)`\n\n```toml\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)
    commands = "".join(re.findall(r"^```bash\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL))
    asked = "--address localhost:9443"
    assert commands.count(asked) == 1
    mine = f"--address localhost:{proxy} --superlink-port {superlink} --node-port {node}"
    return dict(files), "set -e\n" + commands.replace(asked, mine)


@pytest.fixture(scope="module")
def walked(tmp_path_factory, home):
    """The folder in which the guide was followed, with all its programs still running."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "examples").symlink_to(ROOT / "examples")
    files, commands = script((*free_ports(2), free_row(3)))
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "walk.sh").write_text(commands)
    with Programs(folder / "test-logs", home) as programs:
        programs.start("walk", "bash", "-c", "bash walk.sh; echo walked $?; sleep 3600", cwd=folder)
        programs.wait_for("walk", "\nwalked ", seconds=1200)
        said = programs.log("walk").read_text()
        logs = [f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in folder.glob("*.log")]
        assert "\nwalked 0" in said, "\n".join([said, *logs])
        yield folder, said


def test_the_run_has_results_of_every_client(walked):
    folder, said = walked
    results = json.loads((folder / "runs" / "three" / "results.json").read_text())
    assert 0 < results["self"]["last"] <= 1
    assert results["others"] is None
    assert results["rounds"] == 2
    assert results["messages"] == 6
    assert said.count("online") >= 3


def test_no_private_thing_left_its_node(walked):
    """Neither a node's folders nor any of its samples are in a file of the server or of another node."""
    folder, _ = walked
    server = [path for path in (folder / "federation" / "server").rglob("*") if path.is_file()]
    server += [folder / name for name in ("superlink.log", "server-superexec.log", "proxy.log")]
    server += [path for path in (folder / "runs").rglob("*") if path.is_file()]
    assert len(server) > 20
    private = [f"organisations/{name}".encode() for name in ORGANISATIONS]
    private += [f"nodes/{name}/".encode() for name in ORGANISATIONS]
    for path in server:
        if path.name != "register-nodes.sh":
            content = path.read_bytes()
            assert not [each for each in private if each in content], path
    for name in ORGANISATIONS:
        states = list((folder / "federation" / "nodes" / name / "state").rglob("round-*.safetensors"))
        assert states
        assert {path.parent.name for path in states} == {f"client-{ORGANISATIONS.index(name):03d}"}


def test_no_log_of_the_walk_holds_a_key_or_a_secret(walked):
    folder, _ = walked
    secrets = key_material(folder / "federation")
    assert len(secrets) == 9
    logs = [*folder.glob("*.log"), *folder.glob("test-logs/*.log"), *folder.glob("federation/**/*.log")]
    assert len(logs) >= 10
    for log in logs:
        text = log.read_text(errors="replace")
        for path, lines in secrets.items():
            assert not [line for line in lines if line in text], f"{log} holds what is in {path}"
