"""A run on a device that is not the CPU: nothing is left behind on the wrong one."""

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

import fedmosaic as fm

_SPEC = importlib.util.spec_from_file_location("fake_card", Path(__file__).parents[1] / "fake_card.py")
fake_card = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fake_card)

COLOURS = {"red": (250, 10, 10), "blue": (10, 10, 250)}


def task(name, *, options):
    samples = tuple(
        fm.Sample(f"{name}{colour}{i}", (colour,), f"<image> what colour ? {name} {i}", colour, options)
        for i in range(4)
        for colour in COLOURS
    )
    return fm.Task(name, "vqa", samples, samples[:2], samples[:4])


@pytest.mark.slow
def test_a_run_and_its_models_compute_on_another_device(tmp_path):
    pictures = {name: Image.new("RGB", (32, 32), colour) for name, colour in COLOURS.items()}
    clients = [
        {"id": 0, "model": "tiny-llama", "tasks": ["a"]},
        {"id": 1, "model": "tiny-gemma", "tasks": ["b"]},
        {"id": 2, "model": "tiny-llama", "tasks": ["b"]},
    ]
    with fake_card.card() as device:
        run = fm.run(
            fm.Scenario(name="two", probe="tiny-llama", clients=clients),
            method="sft",
            rounds=2,
            device=device,
            out=tmp_path / "run",
            settings={"training.steps": 2, "training.batch_size": 2, "model.attention": "eager",
                      "adapter.alignment": "none", "adapter.dropout": 0.0, "adapter.rank": 4},
            tasks=[task("a", options=tuple(COLOURS)), task("b", options=None)],
            images=pictures,
        )  # fmt: skip
        assert run.settings.device == device
        assert run.client(0).ask(pictures["red"], "what colour ?")
    assert 0 <= run.results.self_.last <= 1
    assert fm.load_run(tmp_path / "run").results.self_.last == run.results.self_.last
