import json
from pathlib import Path

import pytest

from fedmosaic.config import load_scenario
from fedmosaic.config.published import published_scenarios

SIZES = {  # METHODS D.1, D.2: clients, tasks, distinct models
    "drake-1b-3b": (10, 40, 2),
    "drake-1b-3b-8b": (10, 40, 3),
    "drake-llama1b-3b-qwen1.5b": (10, 40, 3),
    "drake-llama3b-qwen1.5b": (10, 40, 2),
    "drake-llama3b-qwen1.5b-3b": (10, 40, 3),
    "drake-qwen0.5b-1.5b-3b": (10, 40, 3),
    "hflb": (9, 36, 2),
    "fed-scope": (5, 20, 2),
    "fed-aya": (8, 32, 2),
    "fed-llm-large": (52, 104, 2),
}


def test_all_are_there():
    assert set(published_scenarios()) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    scenario = load_scenario(name)
    assert (len(scenario.clients), len(scenario.task_names), len(scenario.models)) == SIZES[name]
    assert scenario.benchmark == "published"


def test_the_data_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("FEDMOSAIC_DATA", "somewhere")
    assert load_scenario("drake-1b-3b").data == "somewhere"


def test_the_published_file_is_the_same_scenario(tmp_path):
    """The release's JSON, written anew from our table, reads back as the same clients."""
    scenario = load_scenario("drake-1b-3b")
    entries = [
        {
            "client_id": client.id,
            "model_id": client.model,
            "datasets": [
                {"dataset": task.rpartition("-")[0], "subset_id": int(task.rpartition("-")[2]), "type": "multi-choice"}
                for task in client.tasks
            ],
        }
        for client in scenario.clients
    ]
    path = Path(tmp_path) / "DRAKE_hetero.json"
    path.write_text(json.dumps(entries))
    assert load_scenario(str(path)).clients == scenario.clients
