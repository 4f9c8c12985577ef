"""A run small enough for tests: four clients, two architectures, two tasks, seconds."""

from fedmosaic.config import RunSettings, Scenario, resolve
from fedmosaic.federation.results import Costs, RunResults

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


def results_of(settings: RunSettings, *, flops: float = 1.0) -> RunResults:
    """Results without scores, of a run that nobody ran."""
    return RunResults(
        scenario=settings.scenario.name,
        method=settings.method,
        engine=settings.engine,
        seed=settings.seed,
        rounds=settings.rounds,
        protocol=settings.scenario.protocol,
        costs=Costs(1.0, 1.0, 1.0, flops, messages=4, bytes_up=1.0, bytes_down=1.0),
    )
