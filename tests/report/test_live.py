from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from tests.cli.calling import call

from fedmosaic.errors import SettingsError
from fedmosaic.federation.event_log import Interrupted
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.local_server import is_loopback
from fedmosaic.report.live import LiveRun, LiveServer

SMALL = """
probe = "tiny-llama"
[settings]
rounds = 2
training = { steps = 1, batch_size = 4 }
adapter = { blocks = 2, rank = 4, alignment = "none" }
[[clients]]
id = 0
model = "tiny-llama"
tasks = ["lowest-bar@bars"]
[[clients]]
id = 1
model = "tiny-llama"
tasks = ["trend@lines"]
"""


@contextmanager
def serving(folder, **options):
    with LiveServer(LiveRun(folder), poll=0.05, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path="/", method="GET", host=None, timeout=20):
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
    return connection.getresponse()


def event_of(stream):
    """The next event of a stream as (kind, data)."""
    kind, data, end = (stream.readline().decode().rstrip("\n") for _ in range(3))
    assert end == ""
    return kind.removeprefix("event: "), data.removeprefix("data: ")


def test_the_page_is_served_and_loads_nothing_from_elsewhere(make_run):
    with serving(make_run(rounds=8, upto=5, title="<script>alert(1)</script>")) as server:
        answer = ask(server)
        html = answer.read().decode()
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert "not finished: 5 of 8 rounds so far" in html
    assert "<script>alert(1)" not in html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy.startswith("default-src 'none'")
    assert policy.endswith("connect-src 'self'")
    assert not re.search(r"(?:src|href)=\"(?!data:)|url\(|https?://", html)


def test_a_change_of_the_folder_is_told_and_is_on_the_page(make_run, tmp_path):
    folder = make_run(rounds=8, upto=3)
    further = make_run("further", rounds=8)
    with serving(folder) as server:
        stream = ask(server, "/events")
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert event_of(stream) == ("now", "not finished: 3 of 8 rounds so far; round 3: begun")
        for name in ("events.jsonl", "rounds.csv", "results.json"):
            shutil.copy(further / name, folder / name)
        told = next(event for event in iter(lambda: event_of(stream), None) if "finished, 8 rounds" in event[1])
        assert told[0] == "changed"
        assert "finished, 8 rounds" in ask(server).read().decode()


def test_a_file_that_cannot_be_read_leaves_the_page_as_it_was(make_run):
    folder = make_run(rounds=4, upto=2)
    live = LiveRun(folder)
    before, _ = live.page()
    (folder / "rounds.csv").write_text("round,client\nx,y\n")
    after, said = live.page()
    assert after == before
    assert said.startswith("cannot be read right now:")


def test_a_run_that_was_stopped_says_so(make_run):
    folder = make_run(rounds=4, upto=2)
    RunFolder(folder).log(Interrupted())
    assert "2 of 4 rounds so far; interrupted" in LiveRun(folder).page()[0]


def test_nothing_can_be_written_and_nothing_else_is_there(make_run):
    with serving(make_run(rounds=2)) as server:
        assert ask(server, method="POST").status == 501
        assert ask(server, method="DELETE").status == 501
        for path in ("/settings.toml", "/../settings.toml", "/reference/", "/events/1"):
            assert ask(server, path).status == 404
        head = ask(server, method="HEAD")
        assert (head.status, head.read()) == (200, b"")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_name_that_is_not_the_servers_is_refused(make_run, host):
    with serving(make_run(rounds=2)) as server:
        port = server.server_address[1]
        assert ask(server, host=host.format(port=port) or " ").status == 421
        assert ask(server, host=f"localhost:{port}").status == 200


def test_elsewhere_than_on_loopback_it_takes_the_token(make_run):
    assert [is_loopback(each) for each in ("127.0.0.1", "localhost", "127.8.0.1")] == [True] * 3
    assert [is_loopback(each) for each in ("0.0.0.0", "", "example.org", "192.168.1.5")] == [False] * 4
    with serving(make_run(rounds=2), host="0.0.0.0") as server:
        assert len(server.token) >= 24
        assert server.url.endswith(f"/?token={server.token}")
        for path in ("/", "/events", "/?token=", f"/?token={server.token}x", "/?token=%ff"):
            assert ask(server, path).status == 403
        assert ask(server, f"/?token={server.token}", host="any.name").status == 200


def test_a_taken_port_and_a_folder_without_a_run_are_one_line(make_run, tmp_path):
    folder = make_run(rounds=2)
    with serving(folder) as server, pytest.raises(SettingsError, match=r"--port \d+ is in use") as taken:
        LiveServer(LiveRun(folder), port=server.server_address[1])
    assert "\n" not in str(taken.value)
    with pytest.raises(SettingsError):
        LiveRun(tmp_path / "nothing")


def test_the_command_refuses_in_one_line(make_run, tmp_path, monkeypatch, capsys):
    folder = make_run(rounds=2)
    with serving(folder) as server:
        status, _, error = call(monkeypatch, capsys, "watch", folder, "--port", server.server_address[1])
    assert (status, error.count("\n")) == (2, 1)
    assert "is in use; take another one, or --port 0 for any" in error
    status, _, error = call(monkeypatch, capsys, "watch", tmp_path / "nothing", "--port", 0)
    assert (status, error.count("\n")) == (2, 1)


@pytest.mark.slow
def test_a_real_run_is_watched_from_its_first_round_to_its_end(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "fedmosaic", "run", str(tmp_path / "small.toml"), "--quiet", "--out", str(folder)]
    run = subprocess.Popen(command, env=os.environ)
    try:
        while not (folder / "environment.json").is_file():
            assert run.poll() is None
        with serving(folder) as server:
            stream, said = ask(server, "/events", timeout=300), []
            while not said or "finished, 2 rounds" not in said[-1][1]:
                said.append(event_of(stream))
            assert said[0][1].startswith("not finished: 0 of 2 rounds")
            assert said[-1][0] == "changed"
            assert any("client 1 has trained" in text for _, text in said)
            assert "finished, 2 rounds" in ask(server).read().decode()
        assert run.wait() == 0
    finally:
        run.terminate()
        run.wait()
