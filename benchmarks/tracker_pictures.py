"""The pictures of docs/tracking.md: a small run with every tracker, and each tracker's own page in Chromium.

    python benchmarks/tracker_pictures.py --out docs/pictures

Needs pip install 'fedmosaic[track]' mlflow websockets, and chromium.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from websockets.sync.client import ClientConnection, connect

import fedmosaic as fm

WIDTH = 1280
HEIGHTS = {"tensorboard": 1000, "mlflow": 1500, "trackio": 1000}
_SHOWN = "scores/self,scores/others,self/client-0,self/client-1,loss/client-0,loss/client-1"
COLORS = 64
SCENARIO = """
name = "two"
probe = "tiny-llama"
[settings]
rounds = 6
training = { steps = 8, batch_size = 8 }
adapter = { blocks = 2, rank = 8, alignment = "none" }
[[clients]]
id = 0
model = "tiny-llama"
tasks = ["category@photo"]
[[clients]]
id = 1
model = "tiny-qwen2"
tasks = ["place@photo"]
"""


def pages(run: Path, first_port: int) -> dict[str, tuple[list[str], str]]:
    """By tracker: the command that shows what was logged, and the address of the page."""
    tensorboard, mlflow, trackio = range(first_port, first_port + 3)
    kept = json.loads((run / "tracking.json").read_text())
    database = f"sqlite:///{run / 'mlflow.db'}"
    os.environ |= {"GRADIO_SERVER_PORT": str(trackio), "BROWSER": "true"}
    return {
        "tensorboard": (
            ["tensorboard", "--logdir", str(run), "--port", str(tensorboard)],
            f"http://127.0.0.1:{tensorboard}/?smoothing=0&tagFilter=scores%7Cself%7Crelevance#timeseries",
        ),
        "mlflow": (
            ["mlflow", "ui", "--backend-store-uri", database, "--port", str(mlflow), "--workers", "1"],
            f"http://127.0.0.1:{mlflow}/#/experiments/1/runs/{kept['mlflow']}/model-metrics",
        ),
        "trackio": (
            ["trackio", "show", "--project", "fedmosaic"],
            f"http://127.0.0.1:{trackio}/?project=fedmosaic&sidebar=hidden&metrics={_SHOWN}",
        ),
    }


@contextmanager
def showing(command: list[str], address: str) -> Iterator[None]:
    """Have the page at an address inside the block."""
    with subprocess.Popen([Path(sys.executable).parent / command[0], *command[1:]]) as server:
        try:
            fetched(address.partition("#")[0])
            yield
        finally:
            server.terminate()


def picture(address: str, path: Path, height: int, *, port: int, patience: float) -> None:
    """Take a picture of a page when it has had time to draw its charts, and make it small."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [
            "chromium", "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder}",
            "--enable-unsafe-swiftshader",  # TensorBoard draws lines with WebGL
            f"--window-size={WIDTH},{height}", f"--remote-debugging-port={port}", "about:blank",
        ]  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
            try:
                tabs = json.loads(fetched(f"http://127.0.0.1:{port}/json"))
                with connect(
                    next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"], max_size=None
                ) as tab:
                    told(tab, "Page.navigate", url=address)
                    time.sleep(patience)
                    page = base64.b64decode(told(tab, "Page.captureScreenshot")["data"])
            finally:
                browser.terminate()
        small(page, path)


def told(tab: ClientConnection, method: str, **params: object) -> dict[str, str]:
    """Tell a tab to do something, and return what has come of it."""
    tab.send(json.dumps({"id": 1, "method": method, "params": params}))
    while (answer := json.loads(tab.recv())).get("id") != 1:
        pass
    return answer["result"]


def fetched(address: str) -> bytes:
    """Return what is at an address, as soon as there is somebody who answers."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(address) as answer:
                return answer.read()
        except OSError:
            time.sleep(1)
    raise TimeoutError(address)


def small(page: bytes, path: Path) -> None:
    """Write a screenshot with few colours."""
    with Image.open(io.BytesIO(page)) as image:
        image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Make the run, then the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--run", type=Path, help="a run that was tracked before, with TRACKIO_DIR as it was then")
    parser.add_argument("--port", type=int, default=8810, help="the first of four")
    parser.add_argument("--patience", type=float, default=20, help="seconds that a page has to draw its charts")
    asked = parser.parse_args()
    os.environ |= {"WANDB_MODE": "offline", "MLFLOW_DISABLE_TELEMETRY": "true", "GRADIO_ANALYTICS_ENABLED": "False"}
    with tempfile.TemporaryDirectory() as folder:
        run = asked.run
        if run is None:
            os.environ["TRACKIO_DIR"] = f"{folder}/trackio"
            (Path(folder) / "two.toml").write_text(SCENARIO)
            run = Path(folder) / "run"
            trackers = ["tensorboard", "mlflow", "wandb", "trackio"]
            fm.run(Path(folder) / "two.toml", method="fedmosaic", track=trackers, out=run)
        for name, (command, address) in pages(run.resolve(), asked.port).items():
            with showing(command, address):
                picture(address, asked.out / f"{name}.png", HEIGHTS[name], port=asked.port + 3, patience=asked.patience)


if __name__ == "__main__":
    main()
