"""What is scored before the first round: the base model, with the LoRA that a client brings, and nothing else."""

import json

import pytest

from fedmosaic.adapters.export import write_lora
from fedmosaic.config import resolve
from fedmosaic.config.scenario import Scenario
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.final_model import answering
from fedmosaic.federation.runtime import ClientRuntime

WORDS = ["red", "green", "blue", "bird", "dog", "tree", "house", "car", "chair", "fish", "star"]


def record(number):
    options = [WORDS[(number + step * (1 + number % 7)) % len(WORDS)] for step in range(3)]
    options = list(dict.fromkeys(options))
    question = (
        f"{WORDS[number % 11]} {WORDS[(number * 5 + 3) % 11]} which fits ? options : {' '.join(options)} answer :"
    )
    return json.dumps({"question": question, "options": options, "answer": options[number % len(options)]})


@pytest.fixture
def runtime(tmp_path, home):
    (tmp_path / "t.jsonl").write_text("\n".join(map(record, range(60))))

    def make(method, start, *more):
        client = {"id": 0, "model": "tiny-llama", "tasks": ["t"], "start": start}
        scenario = Scenario(name="x", benchmark="files", data=str(tmp_path / "t.jsonl"), clients=[client])
        overrides = [f"method={method}", "rounds=1", "adapter.alignment=none", "adapter.blocks=0", *more]
        assets = Assets(resolve(scenario, overrides=overrides, device="cpu"), cache=home)
        return ClientRuntime(assets, tmp_path / f"{method}-{bool(start)}")

    return make


@pytest.mark.slow
def test_the_proxy_has_no_part_in_it(runtime, tmp_path):
    node = ClientNode(runtime("sft", ""), 0)
    base = node.evaluate(0, others=True, count=0)
    with node.adapter.mixed("local"):  # B is zero: it computes what the base model computes
        write_lora(node.adapter, tmp_path / "lora", base_model="tiny-llama")
    started = runtime("fedmosaic-proxy", str(tmp_path / "lora"), "method.proxy=tiny-qwen2")
    node = ClientNode(started, 0)
    assert node.evaluate(0, others=True, count=0) == base
    with answering(started, 0, "start") as model:
        assert model is started.assets.pool.model("tiny-llama")
