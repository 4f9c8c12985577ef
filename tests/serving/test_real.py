"""A small run, served: what the endpoint says is what the client's models say."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.calling import call
from tests.serving.test_wire import events, send, shown

import fedmosaic as fm
from fedmosaic.data.in_memory import InMemoryImages
from fedmosaic.data.sample import Sample
from fedmosaic.models import load_base_model
from fedmosaic.serving.serve import open_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
QUESTION = "name the color and the kind of this thing . answer :"
SMALL = """
probe = "tiny-llama"
[settings]
rounds = 2
training = { steps = 4, batch_size = 4, learning_rate = 0.01 }
adapter = { blocks = 2, rank = 4, alignment = "none" }
[[clients]]
id = 0
model = "tiny-llama"
tasks = ["describe@openmoji"]
[[clients]]
id = 1
model = "tiny-llama"
tasks = ["trend@lines"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "small.toml").write_text(SMALL)
    return fm.run(folder / "small.toml", method="fedmosaic", reference=True, out=folder / "run")


@contextmanager
def serving(*arguments, **options):
    with open_server(*arguments, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def body(model, pictures, **more):
    parts = [*map(shown, pictures), {"type": "text", "text": QUESTION}]
    return {"model": model, "messages": [{"role": "user", "content": parts}], "max_tokens": 12, **more}


def said(answer):
    return answer["choices"][0]["message"]["content"]


def test_every_moment_of_the_client_answers_as_from_python(run, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(3)
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(path)
    pictures = [uri_of(path) for path in paths]
    expected = {
        "start": run.client(0, before=True),
        "local-only": run.reference.client(0),
        "final": run.client(0),
        "exchanged": run.client(0, after_exchange=True),
    }
    expected = {f"client-0-{name}": model.ask(paths, QUESTION, max_tokens=12) for name, model in expected.items()}
    album = InMemoryImages({str(number): path for number, path in enumerate(paths)})
    base = load_base_model("tiny-llama", images=album, home=tmp_path, device="cpu")
    asked = Sample("q", ("0", "1"), f"<image> <image> {QUESTION}", "?")
    assert base.answer([asked], max_tokens=12) == [expected["client-0-start"]]
    assert len(set(expected.values())) > 1, "no training has changed any answer: the test would see no mix-up"
    with serving(fm.load_run(run.path), 0) as server:
        assert [*server.models.by_name] == [*expected]
        found, threads = {}, []
        for name in expected:  # all at once

            def ask(name=name):
                found[name] = send(server, body=body(name, pictures))

            threads.append(threading.Thread(target=ask))
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert {name: (status, said(answer)) for name, (status, answer) in found.items()} == {
            name: (200, text) for name, text in expected.items()
        }
        for name, text in expected.items():
            stream = events(send(server, body=body(name, pictures, stream=True))[1])
            pieces = [each["choices"][0]["delta"].get("content", "") for each in stream]
            assert "".join(pieces) == text
            assert len([piece for piece in pieces if piece]) == len(text.split())  # its tokens are words
            usage = found[name][1]["usage"]
            assert usage["prompt_tokens"] == int(base.collate([asked], with_answers=False).last[0]) + 1
            assert usage["completion_tokens"] == len(base.tokenizer(text, add_special_tokens=False)["input_ids"])
        choice = send(server, body=body("client-0-final", [], options=["red", "blue"]))[1]
        assert said(choice) == run.client(0).ask(None, QUESTION, ["red", "blue"])
        long = body("client-0-final", []) | {"messages": [{"role": "user", "content": "red " * 600}]}
        status, refused = send(server, body=long)
        assert (status, "positions" in refused["error"]["message"]) == (400, True)
        cut = send(server, body=body("client-0-final", pictures) | {"max_tokens": 1})[1]["choices"][0]
        assert (cut["message"]["content"], cut["finish_reason"]) == (expected["client-0-final"].split()[0], "length")
        page = send(server, "/")[1]
        assert "describe@openmoji" in page
        assert not re.search(r"(?:src|href)=\"(?!data:)|url\(|https?://", page)
    images = [argument for path in paths for argument in ("--image", path)]
    given = ["--client", 0, *images, "--max-tokens", 12, QUESTION]
    status, shown_, error = call(monkeypatch, capsys, "ask", run.path, *given, "--side-by-side")
    assert status == 0, error
    lines = [line for line in shown_.splitlines() if line.strip()]
    assert [line.startswith(("before", "after")) for line in lines] == [True] * 4
    assert [" ".join(line.split()).endswith(text) for line, text in zip(lines, expected.values(), strict=True)] == [
        True
    ] * 4
    assert call(monkeypatch, capsys, "ask", run.path, *given, "--before")[1].strip() == expected["client-0-start"]


def uri_of(path):
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_what_cannot_be_served_is_one_line(run, tmp_path, monkeypatch, capsys):
    with serving(run, 1, only=["start"]) as server:
        assert [*server.models.by_name] == ["client-1-start"]
        port = server.server_address[1]
        cases = [
            (["serve", run.path, "--client", 0, "--port", port], "is in use"),
            (["serve", run.path, "--client", 7, "--port", 0], "7"),
            (["serve", tmp_path / "none", "--client", 0], "none"),
            (["serve", run.path, "--client", 0, "--port", 0, "--token", "short"], "--token"),
            (["ask", run.path, "--client", 0, "?", "--before", "--after-exchange"], "ask for one"),
            (["ask", run.path, "--client", 0, "?", "--before", "--side-by-side"], "--side-by-side"),
        ]
        for arguments, words in cases:
            status, _, error = call(monkeypatch, capsys, *arguments)
            assert (status, error.count("\n")) == (2, 1), arguments
            assert words in error


def test_the_guides_commands_work(tmp_path, home):
    """docs/serve.md as it stands, but for the port, which may be taken."""
    guide = (ROOT / "docs" / "serve.md").read_text()
    commands = "".join(re.findall(r"^```bash\n(.*?)^```", guide, flags=re.MULTILINE | re.DOTALL))
    assert commands.count("8766") >= 3
    assert commands.count("--port") == 1
    script = "set -e\ntrap 'kill %1' EXIT\n" + commands.replace("8766", str(_free_port()))
    program = tmp_path / "bin" / "fedmosaic"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fedmosaic "$@"\n')
    program.chmod(0o755)
    settings = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    listed, answer = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert [each["id"] for each in listed["data"]][-2:] == ["client-1-final", "client-1-exchanged"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert said(answer) in done.stdout.partition("after fedmosaic")[2].partition("\n")[0]  # as ask has printed it
    assert done.stdout.partition("data: ")[2].partition("data: [DONE]")[1:] == ("data: [DONE]", "\n\nstopped serving\n")


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
