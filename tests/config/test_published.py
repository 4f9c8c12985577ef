import json
from pathlib import Path

import pytest

from fedmosaic.config import load_scenario, resolve
from fedmosaic.config.published import published_scenarios

SIZES = {  # docs/method-facts.md#data-formats: clients, tasks, distinct models
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


MODELS = {  # docs/method-facts.md#drake: who has which model; all others have the first
    "drake-1b-3b": ("llama3.2_3B", {"llama3.2_1B": [0, 1, 8, 9]}),
    "drake-1b-3b-8b": ("llama3.2_3B", {"llama3.2_1B": [0, 1, 8], "llama3.1_8B": [6, 9]}),
    "drake-llama1b-3b-qwen1.5b": ("llama3.2_3B", {"qwen2.5_1.5B": [0, 2, 4], "llama3.2_1B": [1, 8]}),
    "drake-llama3b-qwen1.5b": ("llama3.2_3B", {"qwen2.5_1.5B": [0, 1, 2, 4]}),
    "drake-llama3b-qwen1.5b-3b": ("llama3.2_3B", {"qwen2.5_1.5B": [0, 1, 2, 4], "qwen2.5_3B": [3, 5, 7]}),
    "drake-qwen0.5b-1.5b-3b": ("qwen2.5_3B", {"qwen2.5_0.5B": [1, 8], "qwen2.5_1.5B": [0, 5, 6]}),
    "hflb": ("llama3.2_3B", {"llama3.2_1B": [0, 1, 5]}),
    "fed-scope": ("Llama-3.2-3B", {"Llama-3.1-8B": [0, 4]}),
    "fed-aya": ("Llama-3.2-1B", {"Llama-3.2-3B": [0, 1, 3, 5]}),
    "fed-llm-large": ("Llama-3.2-3B", {"Llama-3.2-1B": list(range(0, 52, 2))}),
}
TASKS = {  # some clients' tasks in order, from the same sections and the release's files
    ("drake-1b-3b", 2): "SEED-Bench-2-2 Fashion200K-1 NLVR2-1 CIRR-0",
    ("drake-1b-3b", 6): "WCVQA-0 iconqa-2 Co-Instruct-DB-2 SEED-Bench-2-1",
    ("drake-1b-3b", 9): "iconqa-0 Co-Instruct-DB-3 SEED-Bench-2-0 WCVQA-2",
    ("hflb", 1): "GQA-20 GQA-21 GQA-22 GQA-23",
    ("hflb", 6): "NLVR2_feddat-0 NLVR2_feddat-1 NLVR2_feddat-2 NLVR2_feddat-3",
    ("fed-scope", 2): "FS_LLM_Instruct-14 FS_LLM_Instruct-15 FS_LLM_Instruct-16 FS_LLM_Instruct-17",
    ("fed-llm-large", 0): "FedDPA-101 FedDPA-201",
    ("fed-llm-large", 3): "FedDPA-112 FedDPA-212",
    ("fed-llm-large", 17): "Fed-aya_topic-102 Fed-aya_topic-103",
    ("fed-llm-large", 30): "Fed-aya_topic-170 Fed-aya_topic-171",
    ("fed-llm-large", 51): "FedchatbotIT-19 FedchatbotIT-39",
}


@pytest.mark.parametrize("name", MODELS)
def test_models_are_assigned_as_published(name):
    rest, groups = MODELS[name]
    wanted = {client: model for model, clients in groups.items() for client in clients}
    for client in load_scenario(name).clients:
        assert wanted.get(client.id, rest) in client.model


@pytest.mark.parametrize(("name", "client"), TASKS)
def test_tasks_are_assigned_as_published(name, client):
    assert load_scenario(name).client(client).tasks == tuple(TASKS[name, client].split())


def test_settings_and_open_tasks_are_the_published_ones():
    drake = resolve(load_scenario("drake-1b-3b"))
    assert (drake.rounds, drake.training.steps, drake.adapter.rank) == (20, 100, 128)
    assert drake.scenario.open_tasks == ("iconqa-2", "iconqa-3")
    text = resolve(load_scenario("fed-llm-large"))
    assert text.evaluation.open_metric == "rouge-l"
    assert set(text.scenario.open_tasks) == set(text.scenario.task_names)


def test_a_published_file_says_which_tasks_are_open_and_how_they_are_scored(tmp_path):
    datasets = [
        {"dataset": "A", "subset_id": 0, "type": "multi-choice"},
        {"dataset": "A", "subset_id": 1, "type": "open-ended", "metric": "RougeL"},
    ]
    path = Path(tmp_path) / "text.json"
    path.write_text(json.dumps([{"client_id": 0, "model_id": "m", "datasets": datasets}]))
    scenario = load_scenario(str(path))
    assert scenario.open_tasks == ("A-1",)
    assert resolve(scenario).evaluation.open_metric == "rouge-l"
