"""Who has no business with a federation is refused: real SuperLink, SuperNode and SuperExec, proxy, TLS and keys."""

import datetime
import shutil
import ssl
import urllib.error
import urllib.request

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tests.deployment.processes import Programs, free_ports, key_material

from fedmosaic.deployment import Plan, new_node_key, write_deployment

pytestmark = pytest.mark.slow

ECHO = {
    "pyproject.toml": """
[project]
name = "echo"
version = "1.0.0"
[tool.flwr.app]
publisher = "tests"
[tool.flwr.app.components]
serverapp = "echo:server"
clientapp = "echo:client"
[tool.flwr.app.config]
""",
    "echo.py": """
from flwr.app import Message
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
server = ServerApp()
client = ClientApp()

@server.main()
def main(grid, context):
    assert list(grid.get_node_ids())

@client.train()
def train(message, context):
    return Message(message.content, reply_to=message)
""",
}


@pytest.fixture(scope="module")
def federation(tmp_path_factory, home):
    """A SuperLink and its proxy, one registered node, nobody who does the server's tasks."""
    root = tmp_path_factory.mktemp("federation")
    proxy, superlink, *nodes = free_ports(4)
    plan = Plan.of(clients=("hospital",), address=f"localhost:{proxy}", superlink_port=superlink, node_port=max(nodes))
    folders = write_deployment(plan, root / "d")
    with Programs(root / "logs", home) as programs:
        programs.start("superlink", folders.server / "start-superlink.sh")
        programs.start("proxy", folders.server / "start-proxy.sh")
        programs.call(folders.server / "register-nodes.sh")
        programs.start("hospital", folders.nodes["hospital"] / "start-supernode.sh")
        programs.wait_for("hospital", "SuperNode ID")
        yield plan, folders, programs


@pytest.fixture
def impostor(federation, tmp_path):
    """A copy of the node's folder, as somebody else would make it, on a port of its own."""
    plan, folders, _ = federation
    folder = tmp_path / "impostor"
    shutil.copytree(folders.nodes["hospital"], folder)
    change(folder / "node.env", f"NODE_PORT={plan.node_port}", f"NODE_PORT={free_ports(1)[0]}")
    return folder


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def refused(programs, name, folder, words):
    """The node's program says why it is not let in, and the SuperLink activates nobody."""
    before = programs.log("superlink").read_text().count("Activated node_id")
    programs.start(name, folder / "start-supernode.sh")
    programs.wait_for(name, words)
    programs.stop(name)
    assert programs.log("superlink").read_text().count("Activated node_id") == before


def test_a_node_with_an_unknown_key(federation, impostor):
    _, _, programs = federation
    (impostor / "keys" / "node.key").unlink()
    new_node_key(impostor / "keys" / "node.key")
    refused(programs, "unknown-key", impostor, "Failed to activate SuperNode")
    assert "No SuperNode found with the given public key" in programs.log("superlink").read_text()


def test_a_server_whose_certificate_another_authority_signed(federation, impostor, tmp_path):
    plan, _, programs = federation
    other = write_deployment(plan, tmp_path / "other")
    shutil.copy(other.authority / "ca.crt", impostor / "ca.crt")
    refused(programs, "other-authority", impostor, "CERTIFICATE_VERIFY_FAILED")


def test_a_server_under_a_name_that_its_certificate_does_not_have(federation, impostor):
    plan, _, programs = federation
    change(impostor / "node.env", plan.address, f"127.0.0.2:{plan.port}")
    refused(programs, "other-name", impostor, "CERTIFICATE_VERIFY_FAILED")


def test_a_server_whose_certificate_has_expired(federation, impostor, tmp_path):
    plan, folders, programs = federation
    late = tmp_path / "late"
    shutil.copytree(folders.server, late, ignore=shutil.ignore_patterns("state", "proxy"))
    expire(late / "server.crt", folders.authority / "ca.key")
    port = free_ports(1)[0]
    change(late / "nginx.conf", f"listen {plan.port} ssl", f"listen {port} ssl")
    programs.start("late-proxy", late / "start-proxy.sh")
    change(impostor / "node.env", plan.address, f"localhost:{port}")
    refused(programs, "expired", impostor, "certificate has expired")


def expire(path, authority_key):
    """Sign a certificate's content again, valid until yesterday."""
    old = x509.load_pem_x509_certificate(path.read_bytes())
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), x509.random_serial_number())
        .not_valid_before(yesterday - datetime.timedelta(days=1))
        .not_valid_after(yesterday)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signer = serialization.load_pem_private_key(authority_key.read_bytes(), password=None)
    path.write_bytes(builder.sign(signer, hashes.SHA384()).public_bytes(serialization.Encoding.PEM))


def test_plain_text_to_the_tls_ports(federation, impostor):
    plan, _, programs = federation
    for port in (plan.port, plan.superlink_port):
        with pytest.raises((urllib.error.URLError, ConnectionError)) as refusal:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/fleet/pull-messages", data=b"", timeout=20)
        assert getattr(refusal.value, "code", 400) == 400
    keyed = '--root-certificates ca.crt --auth-supernode-private-key "$keys/node.key"'
    change(impostor / "start-supernode.sh", keyed, "--insecure --max-retries 1")
    refused(programs, "plain-text", impostor, "Failed to initialize the connection")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-nodes",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/..%2fcontrol/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet//../../control/list-nodes",
        "/v1/fleet",
        "/docs",
        "/health",
        "/",
    ],
)
def test_the_proxy_forwards_the_fleet_api_alone(federation, path):
    assert posted(federation, path) == 403


def test_the_fleet_api_itself_wants_a_signature(federation):
    assert posted(federation, "/v1/fleet/pull-messages") == 401


def posted(federation, path):
    plan, folders, _ = federation
    trusted = ssl.create_default_context(cafile=folders.authority / "ca.crt")
    headers = {"Content-Type": "application/protobuf"}
    request = urllib.request.Request(f"https://localhost:{plan.port}{path}", data=b"", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, context=trusted, timeout=20)
    return refusal.value.code


def test_a_task_is_given_to_nobody_without_the_secret(federation, tmp_path):
    """A run waits, however often somebody without the server's secret asks for its task, and runs when it is asked for
    with the secret; a node's tasks are asked for in vain, too.
    """
    plan, folders, programs = federation
    app = tmp_path / "echo"
    app.mkdir()
    for name, text in ECHO.items():
        (app / name).write_text(text)
    programs.environment |= {"FLWR_HOME": str(folders.server / "flower"), **offline(folders.server / "server.env")}
    programs.call("flwr", "run", app, "federation")
    superlink, node = f"localhost:{plan.superlink_port}", f"127.0.0.1:{plan.node_port}"
    tls, other = ("--root-certificates", folders.server / "ca.crt"), ("--superexec-auth-secret-file", app / "echo.py")
    for name, address, how, log in (
        ("without-secret", superlink, tls, "superlink"),
        ("other-secret", superlink, (*tls, *other), "superlink"),
        ("node-without-secret", node, ("--insecure",), "hospital"),
    ):
        before = programs.log(log).read_text().count("SuperExec authentication failed")
        programs.start(name, "flower-superexec", "--runtime-api-address", address, *how)
        programs.wait_for(log, "SuperExec authentication failed", times=before + 1)
        programs.stop(name)
    assert '"status": "pending"' in programs.call("flwr", "list", "federation", "--format", "json")
    programs.start("superexec", folders.server / "start-superexec.sh")
    programs.wait_for("superlink", "Finished task")
    assert '"status": "finished:completed"' in programs.call("flwr", "list", "federation", "--format", "json")


def offline(path):
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if line.startswith("FLWR_"))


def test_no_log_holds_a_key_or_a_secret(federation):
    _, folders, programs = federation
    secrets = key_material(folders.server.parent)
    assert len(secrets) == 5
    logs = [*programs.logs.glob("*.log"), *folders.server.glob("proxy/*.log")]
    assert programs.log("superlink") in logs
    for log in logs:
        text = log.read_text(errors="replace")
        for path, lines in secrets.items():
            assert lines
            assert not [line for line in lines if line in text], f"{log} holds what is in {path}"
