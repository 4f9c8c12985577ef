"""What ``deploy init`` writes: keys and certificates as OpenSSL and OpenSSH read them, files as their programs do."""

import os
import re
import shutil
import stat
import subprocess
import tomllib

import pytest
import yaml
from tests.cli.calling import call

from fedmosaic.deployment import Plan, new_node_key, read_public_key, renew_server_certificate, write_deployment
from fedmosaic.errors import SettingsError

CLIENTS = ("hospital", "clinic", "lab")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_deployment(Plan.of(clients=CLIENTS, address="fed.example.org:443"), tmp_path_factory.mktemp("d") / "d")


def tool(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_openssl_takes_the_servers_certificate_for_its_names_and_no_others(folders):
    def verified(host):
        kind = "-verify_ip" if host[0].isdigit() else "-verify_hostname"
        certificate = folders.server / "server.crt"
        done = tool(
            "openssl", "verify", "-x509_strict", "-CAfile", folders.authority / "ca.crt", kind, host, certificate
        )
        return done.returncode == 0

    assert all(map(verified, ("fed.example.org", "localhost", "127.0.0.1")))
    assert not any(map(verified, ("example.org", "10.0.0.1")))


def test_openssh_finds_the_rostered_public_key_in_each_nodes_private_key(folders):
    for name, folder in folders.nodes.items():
        public = tool("ssh-keygen", "-y", "-f", folder / "keys" / "node.key").stdout.split()[:2]
        assert public == (folders.server / "nodes" / f"{name}.pub").read_text().split()[:2]
        assert public[0] == "ecdsa-sha2-nistp384"


def test_only_the_owner_reads_what_is_secret_and_no_machine_has_anothers(folders):
    root = folders.server.parent
    private = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and secret(path)}
    assert private == {
        "authority/ca.key",
        "server/keys/server.key",
        "server/keys/superexec.secret",
        *(f"nodes/{name}/keys/{key}" for name in CLIENTS for key in ("node.key", "superexec.secret")),
    }
    modes = {stat.S_IMODE((root / path).stat().st_mode) for path in private}
    assert modes == {0o600}
    assert {stat.S_IMODE((root / path).parent.stat().st_mode) for path in private if "keys" in path} == {0o700}
    texts = [(root / path).read_bytes() for path in private]
    assert len(set(texts)) == len(texts)


def secret(path):
    return "PRIVATE KEY" in path.read_text() or path.name.endswith(".secret")


def test_each_file_is_what_its_program_reads(folders):
    for script in (*folders.server.glob("*.sh"), *folders.nodes["lab"].glob("*.sh")):
        assert tool("sh", "-n", script).returncode == 0
        assert os.access(script, os.X_OK)
    for folder in (folders.server, folders.nodes["lab"]):
        services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
        for service in services.values():
            assert (folder / service["command"]).is_file()
            ours = service["image"] == "${FEDMOSAIC_IMAGE:-fedmosaic}"
            assert ours == (service.get("entrypoint") == [])
            assert ours or service["image"].startswith("nginx:")
            mounted = [each.split(":")[0] for each in service["volumes"] if "state" not in each and "{" not in each]
            assert all((folder / each).exists() for each in mounted if each != "./proxy")
    assert "node.key" not in services["superexec"]["secrets"]
    config = tomllib.loads((folders.nodes["lab"] / "node.toml").read_text())
    assert config == {"partition-id": 2, "resident": True, "own-tasks-only": True}


def test_systemd_takes_the_units(folders, tmp_path):
    """Once the folders are where the units say; systemd then finds every program and knows every setting."""
    here = {"/etc/fedmosaic/server": folders.server, "/etc/fedmosaic/node": folders.nodes["lab"]}
    units = []
    for unit in (*folders.server.glob("systemd/*"), *folders.nodes["lab"].glob("systemd/*")):
        text = unit.read_text()
        for place, folder in here.items():
            text = text.replace(place, str(folder))
        (tmp_path / unit.name).write_text(text)
        units.append(tmp_path / unit.name)
    assert len(units) == 5
    done = tool("systemd-analyze", "verify", "--man=no", *units)
    assert not [line for line in done.stderr.splitlines() if str(tmp_path) in line or "fedmosaic" in line]


def test_a_node_that_made_its_key_itself_gets_no_other(tmp_path):
    public = new_node_key(tmp_path / "made" / "node.key")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "clinic.pub").write_text(f"{public} someone@laptop\n")
    folders = write_deployment(Plan.of(clients=CLIENTS), tmp_path / "d", public_keys=tmp_path / "given")
    assert [(folders.nodes[name] / "keys" / "node.key").exists() for name in CLIENTS] == [True, False, True]
    roster = tomllib.loads((folders.server / "roster.toml").read_text())["clients"]
    assert roster[1] == {"name": "clinic", "position": 1, "public_key": public}
    assert "laptop" not in (folders.server / "nodes" / "clinic.pub").read_text()


def test_the_servers_certificate_is_renewed_for_the_same_key(tmp_path):
    folders = write_deployment(Plan.of(clients=CLIENTS, days=1), tmp_path / "d")
    before = (folders.server / "server.crt").read_bytes()
    key = (folders.server / "keys" / "server.key").read_bytes()
    expires = renew_server_certificate(folders.authority, folders.server, host="localhost", days=90)
    assert (folders.server / "keys" / "server.key").read_bytes() == key
    assert (folders.server / "server.crt").read_bytes() != before
    end = tool("openssl", "x509", "-noout", "-enddate", "-in", folders.server / "server.crt").stdout
    assert f"{expires:%H:%M:%S %Y}" in end


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"clients": ("a", "b c")}, "'b c' is no plain name"),
        ({"clients": ("a", "$(id)")}, "no plain name"),
        ({"clients": ("../up",)}, "no plain name"),
        ({"clients": ("a", "a")}, "'a' is named twice"),
        ({"clients": ("a",), "address": "fed.example.org"}, "is not HOST:PORT"),
        ({"clients": ("a",), "address": "x;return 200:443"}, "is not HOST:PORT"),
        ({"clients": ("a",), "address": "host:70000"}, "is not HOST:PORT"),
        ({"clients": ("a",), "address": "host:8000"}, "is the port of the address"),
        ({"clients": ("a", "b"), "node_port": 65535}, "leaves no room for 2 nodes"),
        ({"clients": ("a", "b"), "superlink_port": 9095}, "of the server is one of the nodes' ports"),
    ],
)
def test_what_cannot_be_used_is_named(given, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        Plan.of(**given)


def test_a_folder_with_content_stays_as_it_is(tmp_path, monkeypatch, capsys):
    (tmp_path / "keep").write_text("mine")
    status, _, error = call(monkeypatch, capsys, "deploy", "init", "--clients", "a,b", "--out", tmp_path)
    assert status == 2
    assert "is not empty; keys are never overwritten" in error
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


@pytest.mark.parametrize("kind", ["private", "rsa", "text", "nobody", "none"])
def test_unusable_public_keys_are_refused_before_anything_is_written(kind, tmp_path, monkeypatch, capsys):
    given = tmp_path / "given"
    given.mkdir()
    rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC"
    texts = {
        "rsa": rsa,
        "text": "hello",
        "nobody": new_node_key(tmp_path / "k"),
        "private": (tmp_path / "k").read_text(),
    }
    if kind != "none":
        (given / ("stranger.pub" if kind == "nobody" else "a.pub")).write_text(texts[kind])
    command = ("deploy", "init", "--clients", "a,b", "--out", tmp_path / "d", "--public-keys", given)
    status, _, error = call(monkeypatch, capsys, *command)
    assert status == 2
    said = {
        "private": "stays where it was made",
        "nobody": "there is no client 'stranger'",
        "none": "holds no NAME.pub",
    }
    assert said.get(kind, "ssh-keygen -t ecdsa -b 384") in error
    assert "PRIVATE" not in error
    assert not (tmp_path / "d").exists()


def test_a_key_made_where_it_belongs_is_one_that_init_takes_and_is_not_made_twice(tmp_path, monkeypatch, capsys):
    status, said, _ = call(monkeypatch, capsys, "deploy", "key", "lab", "--out", tmp_path)
    assert status == 0
    assert "private, stays here" in said
    assert read_public_key(tmp_path / "lab.pub").startswith("ecdsa-sha2-nistp384 ")
    before = (tmp_path / "lab.key").read_bytes()
    status, _, error = call(monkeypatch, capsys, "deploy", "key", "lab", "--out", tmp_path)
    assert status == 2
    assert "never overwritten" in error
    assert (tmp_path / "lab.key").read_bytes() == before
