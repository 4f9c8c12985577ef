"""A run small enough for tests: four clients, two architectures, two tasks, seconds."""

from fedmosaic.config import RunSettings, Scenario, resolve

SMALL = Scenario(
    name="small",
    probe="tiny-llama",
    clients=[
        {"id": 0, "model": "tiny-llama", "tasks": ["lowest-bar@bars"]},
        {"id": 1, "model": "tiny-llama", "tasks": ["trend@lines"]},
        {"id": 2, "model": "tiny-gemma", "tasks": ["trend@lines"]},
        {"id": 3, "model": "tiny-llama", "tasks": ["trend@lines", "lowest-bar@bars"]},
    ],
    settings={
        "rounds": 3,
        "training": {"steps": 2, "batch_size": 4},
        "adapter": {"blocks": 2, "rank": 4, "alignment": "none"},
        "evaluation": {"samples_per_task": 5},
    },
)


def small(method: str = "fedmosaic", **changes: object) -> RunSettings:
    return resolve(SMALL, method=method, **changes)
