"""The pictures of docs/tracking.md: a small run with every tracker, and each tracker's own page in Chromium.

    python benchmarks/tracker_pictures.py --out docs/pictures

Needs pip install 'fedmosaic[track]' mlflow, and chromium.
"""

from __future__ import annotations

import argparse
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

import fedmosaic as fm

WIDTH = 1280
HEIGHTS = {"tensorboard": 1000, "mlflow": 1900, "trackio": 1000}
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
            for _ in range(300):
                try:
                    urllib.request.urlopen(address.partition("#")[0]).close()
                    break
                except OSError:
                    time.sleep(1)
            yield
        finally:
            server.terminate()


def picture(address: str, path: Path, height: int) -> None:
    """Take a picture of a page, and make it small."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--hide-scrollbars",
                f"--window-size={WIDTH},{height}", f"--user-data-dir={folder}/profile", "--virtual-time-budget=60000",
                f"--screenshot={folder}/page.png", address,
            ],
            check=True, timeout=600,
        )  # fmt: skip
        small(Path(folder) / "page.png", path)


def small(page: Path, path: Path) -> None:
    """Write a screenshot with few colours."""
    with Image.open(page) as image:
        image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Make the run, then the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--run", type=Path, help="a run that was tracked before, with TRACKIO_DIR as it was then")
    parser.add_argument("--port", type=int, default=8810, help="the first of three")
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
                picture(address, asked.out / f"{name}.png", HEIGHTS[name])


if __name__ == "__main__":
    main()
