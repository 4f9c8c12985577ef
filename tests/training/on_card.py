"""Runs on the stand-in for a second device. test_on_another_device.py gives them a process of their own.

torch counts the devices once, before the first backward pass of a process, and never forgets one.
"""

import pytest
from PIL import Image
from tests.engines.test_several_devices import finished, states
from tests.fake_card import card

import fedmosaic as fm

COLOURS = {"red": (250, 10, 10), "blue": (10, 10, 250)}


def task(name, *, options):
    samples = tuple(
        fm.Sample(f"{name}{colour}{i}", (colour,), f"<image> what colour ? {name} {i}", colour, options)
        for i in range(4)
        for colour in COLOURS
    )
    return fm.Task(name, "vqa", samples, samples[:2], samples[:4])


@pytest.fixture
def device():
    with card() as name:
        yield name


def test_a_run_and_its_models_compute_there(tmp_path, device):
    pictures = {name: Image.new("RGB", (32, 32), colour) for name, colour in COLOURS.items()}
    clients = [
        {"id": 0, "model": "tiny-llama", "tasks": ["a"]},
        {"id": 1, "model": "tiny-gemma", "tasks": ["b"]},
        {"id": 2, "model": "tiny-llama", "tasks": ["b"]},
    ]
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


@pytest.mark.parametrize("method", ["fedmosaic", "fedmosaic-proxy"])
def test_nothing_crosses_from_one_device_to_the_other(tmp_path, device, method):
    how = {"evaluation.samples_per_task": 2, "model.attention": "eager"}
    both = finished(tmp_path / "both", f"cpu,{device}", method, settings=how)
    alone = finished(tmp_path / "alone", "cpu", method, settings=how)
    found = states(both)
    for name, tensors in states(alone).items():
        for key, tensor in tensors.items():
            assert (found[name][key] - tensor).abs().max() < 1e-5, (name, key)
